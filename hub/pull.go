package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Pull downloads the files of a repository into the hub's cache and returns the folder of the model. Files that are there
// are kept, and begun ones continued. progress, if not nil, is called with the bytes so far and in all.
func (c *Client) Pull(ctx context.Context, r *Repo, progress func(done, total int64)) (string, error) {
	s := c.store(r.ID)
	p := &pull{client: c, repo: r, total: r.Bytes(), progress: progress}
	if err := p.files(ctx, s); err != nil {
		return "", err
	}
	return s.commit(r)
}

// Missing is how many bytes Pull would download.
func (c *Client) Missing(r *Repo) int64 {
	s := c.store(r.ID)
	n := int64(0)
	for _, f := range r.Files {
		final, partial := s.paths(r, f)
		if _, err := os.Stat(final); err == nil {
			continue
		}
		n += f.Size
		if st, err := os.Stat(partial); err == nil {
			n -= min(st.Size(), f.Size)
		}
	}
	return n
}

type pull struct {
	client   *Client
	repo     *Repo
	done     atomic.Int64
	total    int64
	progress func(done, total int64)
	mu       sync.Mutex
}

func (p *pull) add(n int64) {
	done := p.done.Add(n)
	if p.progress != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.progress(min(done, p.total), p.total)
	}
}

// files downloads several files at a time; the first failure stops the others.
func (p *pull) files(ctx context.Context, s store) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan File)
	var wg sync.WaitGroup
	for range max(1, p.client.Parallel) {
		wg.Go(func() {
			for f := range queue {
				if err := p.file(ctx, s, f); err != nil {
					cancel(fmt.Errorf("hub: %s: %s: %w", p.repo.ID, f.Path, err))
				}
			}
		})
	}
	for _, f := range p.repo.Files {
		select {
		case queue <- f:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}

// file downloads one file unless it is there.
func (p *pull) file(ctx context.Context, s store, f File) error {
	final, partial := s.paths(p.repo, f)
	if st, err := os.Stat(final); err == nil && st.Size() == f.Size {
		p.add(f.Size)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := lock(out); err != nil {
		return fmt.Errorf("another program downloads it: %w", err)
	}
	if err := p.fetch(ctx, f, out); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	if err := out.Close(); err != nil || s.kind == ModelScope {
		return err // commit renames the files of a ModelScope model all at once
	}
	return os.Rename(partial, final)
}

// hasher is the hash that a file's contents must have, and its value; nil when the hub names none.
func hasher(f File) (hash.Hash, string) {
	switch {
	case f.SHA256 != "":
		return sha256.New(), f.SHA256
	case f.GitSHA1 != "":
		h := sha1.New()
		fmt.Fprintf(h, "blob %d\x00", f.Size)
		return h, f.GitSHA1
	}
	return nil, ""
}

// fetch fills out, from where it ends, and checks the whole. Lost connections are taken up again; contents with a wrong
// hash are dropped and fetched once more.
func (p *pull) fetch(ctx context.Context, f File, out *os.File) error {
	failures, corrupt := 0, 0
	for {
		h, want := hasher(f)
		size, err := hashed(out, h, f.Size)
		if err != nil {
			return err
		}
		p.add(size)
		if size < f.Size {
			var n int64
			n, err = p.rest(ctx, f, out, size, h)
			size += n
		}
		var refused permanent
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &refused):
			return refused.error
		case err == nil && size == f.Size && (h == nil || hex.EncodeToString(h.Sum(nil)) == want):
			return nil
		case err == nil && size == f.Size:
			if corrupt++; corrupt > 1 {
				return fmt.Errorf("checksum: want %s, got another twice: the hub or the way to it damages files", want)
			}
			if err := out.Truncate(0); err != nil {
				return err
			}
		default:
			if failures++; failures > p.client.Retries {
				if err == nil {
					err = io.ErrUnexpectedEOF
				}
				return fmt.Errorf("the connection was lost %d times (%w); run the same command again to go on at %d of %d bytes", failures, err, size, f.Size)
			}
			select {
			case <-time.After(min(time.Duration(failures)*pause, 5*time.Second)):
			case <-ctx.Done():
			}
		}
		p.add(-size)
	}
}

// pause is the first wait before a lost connection is taken up again.
var pause = 300 * time.Millisecond

// permanent is an error that trying again does not change.
type permanent struct{ error }

// hashed reads what is already there into h and leaves out at its end.
func hashed(out *os.File, h hash.Hash, limit int64) (int64, error) {
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	st, err := out.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() > limit {
		return 0, out.Truncate(0)
	}
	var w io.Writer = io.Discard
	if h != nil {
		w = h
	}
	return io.Copy(w, out)
}

// rest appends the bytes from offset on. A connection that is silent for the timeout counts as lost.
func (p *pull) rest(ctx context.Context, f File, out *os.File, offset int64, h hash.Hash) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(p.client.Timeout, func() { cancel(errSilent) })
	defer silent.Stop()
	res, err := p.client.get(ctx, p.client.address(p.repo, f), offset)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if err := status(res); err != nil {
		if res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusRequestTimeout {
			return 0, permanent{err}
		}
		return 0, err
	}
	if offset > 0 && res.StatusCode != http.StatusPartialContent {
		// The server starts over: so does the file.
		if err := out.Truncate(0); err != nil {
			return 0, permanent{err}
		}
		return 0, errors.New("the server does not continue files")
	}
	body := io.LimitReader(res.Body, f.Size-offset)
	buf := make([]byte, 256<<10)
	n := int64(0)
	for {
		k, err := body.Read(buf)
		silent.Reset(p.client.Timeout)
		if k > 0 {
			if _, err := out.Write(buf[:k]); err != nil {
				return n, permanent{err}
			}
			if h != nil {
				h.Write(buf[:k])
			}
			n += int64(k)
			p.add(int64(k))
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// address is where a file is downloaded from.
func (c *Client) address(r *Repo, f File) string {
	if c.Kind == ModelScope {
		return c.Endpoint + "/api/v1/models/" + r.ID + "/repo?Revision=" + url.QueryEscape(r.Commit) + "&FilePath=" + url.QueryEscape(f.Path)
	}
	parts := strings.Split(f.Path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return c.Endpoint + "/" + r.ID + "/resolve/" + r.Commit + "/" + strings.Join(parts, "/")
}

// store is a model's folder in a cache. The Hugging Face hub's holds contents once, by their hash (blobs), and folders of
// links to them for each commit (snapshots); ModelScope's holds the files themselves.
type store struct {
	kind Kind
	dir  string
}

func (c *Client) store(id string) store {
	if c.Kind == ModelScope {
		return store{c.Kind, filepath.Join(c.Cache, "models", filepath.FromSlash(id))}
	}
	return store{c.Kind, filepath.Join(c.Cache, "models--"+strings.ReplaceAll(id, "/", "--"))}
}

// paths are where a file's contents lie when complete, and while they come.
func (s store) paths(r *Repo, f File) (final, partial string) {
	if s.kind == ModelScope {
		final = filepath.Join(s.dir, filepath.FromSlash(f.Path))
		return final, final + ".incomplete"
	}
	name := f.SHA256 + f.GitSHA1
	if name == "" {
		h := sha256.Sum256([]byte(r.Commit + "/" + f.Path)) // the hub names no hash: one of the place
		name = hex.EncodeToString(h[:])
	}
	final = filepath.Join(s.dir, "blobs", name)
	return final, final + ".incomplete"
}

// place puts a complete file into the model's folder: a link into the snapshot, or the file itself.
func (s store) place(r *Repo, f File) error {
	final, partial := s.paths(r, f)
	if s.kind == ModelScope {
		err := os.Rename(partial, final)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was there before
		}
		return err
	}
	link := filepath.Join(s.dir, "snapshots", r.Commit, filepath.FromSlash(f.Path))
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	to, err := filepath.Rel(filepath.Dir(link), final)
	if err != nil {
		return err
	}
	if old, err := os.Readlink(link); err == nil && old == to {
		return nil
	}
	os.Remove(link)
	err = os.Symlink(to, link)
	if err != nil && runtime.GOOS == "windows" {
		err = os.Link(final, link) // links need a privilege there
	}
	if errors.Is(err, os.ErrExist) {
		return nil // another file of the same contents and name
	}
	return err
}

// commit makes the model's folder of files that are all complete, enters the revision under its name, and returns the
// folder. Until then nobody finds the model.
func (s store) commit(r *Repo) (string, error) {
	for _, f := range r.Files {
		if err := s.place(r, f); err != nil {
			return "", fmt.Errorf("hub: %s: %s: %w", r.ID, f.Path, err)
		}
	}
	if s.kind == ModelScope {
		return s.dir, nil
	}
	snapshot := filepath.Join(s.dir, "snapshots", r.Commit)
	ref := filepath.Join(s.dir, "refs", filepath.FromSlash(r.Ref))
	if r.Ref == r.Commit {
		return snapshot, nil
	}
	err := os.MkdirAll(filepath.Dir(ref), 0o755)
	if err == nil {
		err = os.WriteFile(ref, []byte(r.Commit), 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("hub: %s: %w", r.ID, err)
	}
	return snapshot, nil
}
