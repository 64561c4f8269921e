package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// page is a project in the index's JSON form (PEP 691).
type page struct {
	Files []struct {
		Name   string            `json:"filename"`
		URL    string            `json:"url"`
		Hashes map[string]string `json:"hashes"`
		Size   int64             `json:"size"`
		Yanked any               `json:"yanked"`
	} `json:"files"`
}

const (
	simpleJSON = "application/vnd.pypi.simple.v1+json"
	maxPage    = 64 << 20
)

// fromIndex downloads the newest wheels of packages and checks their hashes.
func fromIndex(ctx context.Context, index string, packages []string, dir string, progress func(done, total int64)) ([]string, error) {
	d := &download{ctx: ctx, progress: progress}
	var paths []string
	for _, name := range packages {
		link, err := d.find(index, name)
		if err != nil {
			return nil, fmt.Errorf("install: %s: %w", name, err)
		}
		path := filepath.Join(dir, link.file)
		if err := d.get(link, path); err != nil {
			return nil, fmt.Errorf("install: %s: %w", link.file, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// link is a file of the index.
type link struct {
	file, url, sha256 string
	size              int64
}

type download struct {
	ctx         context.Context
	done, total int64
	progress    func(done, total int64)
}

func (d *download) open(address, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("the index answers %s", res.Status), res.Body.Close())
	}
	return res, nil
}

// find looks a package up and takes its newest wheel for this machine.
func (d *download) find(index, name string) (link, error) {
	address := strings.TrimSuffix(index, "/") + "/" + normal(name) + "/"
	res, err := d.open(address, simpleJSON)
	if err != nil {
		return link{}, err
	}
	defer res.Body.Close()
	if !strings.HasPrefix(res.Header.Get("Content-Type"), simpleJSON) {
		return link{}, errors.New("the index that PIP_INDEX_URL names has no JSON pages; unset it to go through pip")
	}
	var p page
	if err := json.NewDecoder(io.LimitReader(res.Body, maxPage)).Decode(&p); err != nil {
		return link{}, fmt.Errorf("the index's page: %w", err)
	}
	var names []string
	byName := map[string]link{}
	base := res.Request.URL
	for _, f := range p.Files {
		if yanked, is := f.Yanked.(bool); f.Yanked != nil && (!is || yanked) {
			continue
		}
		at, err := base.Parse(f.URL)
		if err != nil {
			continue
		}
		names = append(names, f.Name)
		byName[f.Name] = link{f.Name, at.String(), f.Hashes["sha256"], f.Size}
	}
	w, ok := newest(names, name)
	if !ok {
		return link{}, errors.New("the index has no wheel for this machine")
	}
	l := byName[w.file]
	if l.sha256 == "" {
		return link{}, fmt.Errorf("the index gives no checksum of %s", w.file)
	}
	return l, nil
}

// get downloads a file and compares its hash.
func (d *download) get(l link, path string) error {
	res, err := d.open(l.url, "")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	d.total += max(l.size, res.ContentLength)
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h, d), res.Body)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, l.sha256) {
		return fmt.Errorf("has the checksum %s, want %s", got, l.sha256)
	}
	return nil
}

// Write implements io.Writer: it counts.
func (d *download) Write(b []byte) (int, error) {
	d.done += int64(len(b))
	if d.progress != nil {
		d.progress(d.done, d.total)
	}
	return len(b), nil
}
