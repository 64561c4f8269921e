// Package hub downloads models from the Hugging Face hub and from ModelScope into the caches that their own programs
// use, and finds models there.
package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is which hub.
type Kind string

// The hubs.
const (
	HuggingFace Kind = "huggingface"
	ModelScope  Kind = "modelscope"
)

// The documented addresses of the hubs, for which HF_ENDPOINT and MODELSCOPE_DOMAIN stand in.
const (
	huggingFaceEndpoint = "https://huggingface.co"
	modelScopeEndpoint  = "https://www.modelscope.cn"
)

// ParseKind reads a --hub flag; "" is the hub that USE_MODELSCOPE_HUB chooses.
func ParseKind(s string) (Kind, error) {
	switch s {
	case "":
		if truth("USE_MODELSCOPE_HUB") {
			return ModelScope, nil
		}
		return HuggingFace, nil
	case "huggingface", "hf":
		return HuggingFace, nil
	case "modelscope", "ms":
		return ModelScope, nil
	}
	return "", fmt.Errorf("hub: want huggingface or modelscope, got %q", s)
}

// Other is the other hub.
func (k Kind) Other() Kind {
	if k == HuggingFace {
		return ModelScope
	}
	return HuggingFace
}

// truth reads an environment variable as Hugging Face's programs do.
func truth(name string) bool {
	switch strings.ToUpper(os.Getenv(name)) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

// Client talks to one hub.
type Client struct {
	Kind     Kind
	Endpoint string
	Token    string        // "": none
	Cache    string        // root of the hub's cache
	Offline  bool          // nothing is asked of the network
	Timeout  time.Duration // without an answer, or without data, for so long
	Parallel int           // files at a time
	Retries  int           // attempts after the first for each file
	http     *http.Client
}

// New makes a client from the environment, as the hub's own programs read it.
func New(kind Kind) (*Client, error) {
	c := &Client{Kind: kind, Timeout: 10 * time.Second, Parallel: 4, Retries: 5, http: &http.Client{}}
	c.Offline = truth("HF_HUB_OFFLINE") || truth("TRANSFORMERS_OFFLINE")
	if s := os.Getenv("HF_HUB_DOWNLOAD_TIMEOUT"); s != "" {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n > 0 && n < 1e6) {
			return nil, fmt.Errorf("hub: HF_HUB_DOWNLOAD_TIMEOUT: want seconds, got %q", s)
		}
		c.Timeout = time.Duration(n * float64(time.Second))
	}
	var err error
	if c.Cache, err = cacheRoot(kind); err != nil {
		return nil, err
	}
	if kind == ModelScope {
		c.Endpoint, c.Token = modelScopeEndpoint, os.Getenv("MODELSCOPE_API_TOKEN")
		if d := os.Getenv("MODELSCOPE_DOMAIN"); d != "" {
			c.Endpoint = d
			if !strings.Contains(d, "://") {
				c.Endpoint = "https://" + d
			}
		}
	} else {
		c.Endpoint = huggingFaceEndpoint
		if e := os.Getenv("HF_ENDPOINT"); e != "" {
			c.Endpoint = e
		}
		c.Token = huggingFaceToken()
	}
	c.Endpoint = strings.TrimRight(c.Endpoint, "/")
	if u, err := url.Parse(c.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("hub: endpoint: want an address such as %s, got %q", huggingFaceEndpoint, c.Endpoint)
	}
	return c, nil
}

// huggingFaceToken is HF_TOKEN, else what the login command left.
func huggingFaceToken() string {
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if t := strings.TrimSpace(os.Getenv(name)); t != "" {
			return t
		}
	}
	file := os.Getenv("HF_TOKEN_PATH")
	if file == "" {
		home, err := huggingFaceHome()
		if err != nil {
			return ""
		}
		file = filepath.Join(home, "token")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func huggingFaceHome() (string, error) {
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return dir, nil
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("hub: %w", err)
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "huggingface"), nil
}

// cacheRoot is where a hub's programs keep models.
func cacheRoot(kind Kind) (string, error) {
	if kind == ModelScope {
		if dir := os.Getenv("MODELSCOPE_CACHE"); dir != "" {
			return dir, nil
		}
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("hub: %w", err)
		}
		return filepath.Join(home, ".cache", "modelscope", "hub"), nil
	}
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		if dir := os.Getenv(name); dir != "" {
			return dir, nil
		}
	}
	home, err := huggingFaceHome()
	return filepath.Join(home, "hub"), err
}

// File is one file of a repository.
type File struct {
	Path string `json:"path"` // with slashes
	Size int64  `json:"size"`
	// SHA256 is the hash of the contents; GitSHA1 that of Git's blob. One of both is known, or neither.
	SHA256  string `json:"sha256,omitempty"`
	GitSHA1 string `json:"git_sha1,omitempty"`
}

// Repo is a model on a hub at one revision.
type Repo struct {
	ID      string `json:"id"`
	Ref     string `json:"ref"`      // as asked for: a branch, tag or commit
	Commit  string `json:"revision"` // what it stands for
	License string `json:"license"`
	Files   []File `json:"files"`
}

// Bytes is the size of all files.
func (r *Repo) Bytes() int64 {
	n := int64(0)
	for _, f := range r.Files {
		n += f.Size
	}
	return n
}

var (
	idPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	refPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,200}$`)
)

// ValidID reports whether a name has the form ORG/NAME.
func ValidID(id string) bool {
	return idPattern.MatchString(id) && !strings.Contains(id, "..") && !strings.Contains(id, "--")
}

// Lookup asks the hub what a model consists of.
func (c *Client) Lookup(ctx context.Context, id, ref string) (*Repo, error) {
	if !ValidID(id) {
		return nil, fmt.Errorf("hub: %q: want ORG/NAME", id)
	}
	if ref != "" && (!refPattern.MatchString(ref) || strings.Contains(ref, "..")) {
		return nil, fmt.Errorf("hub: %s: revision %q is not valid", id, ref)
	}
	if c.Offline {
		return nil, fmt.Errorf("hub: %s: HF_HUB_OFFLINE is set, nothing is downloaded", id)
	}
	var r *Repo
	var err error
	if c.Kind == ModelScope {
		r, err = c.lookupModelScope(ctx, id, ref)
	} else {
		r, err = c.lookupHuggingFace(ctx, id, ref)
	}
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, f := range r.Files {
		if !safePath(f.Path) || seen[f.Path] || f.Size < 0 || f.SHA256 != "" && !isHex(f.SHA256, 64) || f.GitSHA1 != "" && !isHex(f.GitSHA1, 40) {
			return nil, fmt.Errorf("hub: %s: the hub lists a file %q of %d bytes with hash %q, which is not valid", id, f.Path, f.Size, f.SHA256+f.GitSHA1)
		}
		seen[f.Path] = true
	}
	return r, nil
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// safePath reports whether a path that a hub names stays within the folder that it is meant for.
func safePath(p string) bool {
	return p != "" && p == path.Clean(p) && filepath.IsLocal(filepath.FromSlash(p)) && !strings.ContainsAny(p, "\\:\x00") && len(p) < 1024
}

func (c *Client) lookupHuggingFace(ctx context.Context, id, ref string) (*Repo, error) {
	if ref == "" {
		ref = "main"
	}
	var body struct {
		SHA      string
		Siblings []struct {
			Name   string `json:"rfilename"`
			Size   int64
			BlobID string `json:"blobId"`
			LFS    *struct {
				SHA256 string
				Size   int64
			}
		}
		CardData struct {
			License     any
			LicenseName string `json:"license_name"`
		} `json:"cardData"`
	}
	if err := c.getJSON(ctx, id, "/api/models/"+id+"/revision/"+url.PathEscape(ref)+"?blobs=true", &body); err != nil {
		return nil, err
	}
	if !isHex(body.SHA, 40) {
		return nil, fmt.Errorf("hub: %s: the hub names no commit for %s", id, ref)
	}
	r := &Repo{ID: id, Ref: ref, Commit: body.SHA}
	switch l := body.CardData.License.(type) {
	case string:
		r.License = l
	case []any:
		if len(l) > 0 {
			r.License, _ = l[0].(string)
		}
	}
	if (r.License == "" || r.License == "other") && body.CardData.LicenseName != "" {
		r.License = body.CardData.LicenseName
	}
	for _, s := range body.Siblings {
		f := File{Path: s.Name, Size: s.Size, GitSHA1: s.BlobID}
		if s.LFS != nil {
			f.Size, f.SHA256, f.GitSHA1 = s.LFS.Size, s.LFS.SHA256, ""
		}
		r.Files = append(r.Files, f)
	}
	return r, nil
}

func (c *Client) lookupModelScope(ctx context.Context, id, ref string) (*Repo, error) {
	if ref == "" {
		ref = "master"
	}
	var files struct {
		Code    int
		Message string
		Data    struct {
			Files []struct {
				Path, Type, Sha256, Revision string
				Size                         int64
			}
		}
	}
	if err := c.getJSON(ctx, id, "/api/v1/models/"+id+"/repo/files?Recursive=true&Revision="+url.QueryEscape(ref), &files); err != nil {
		return nil, err
	}
	if files.Code != 0 && files.Code != http.StatusOK {
		return nil, fmt.Errorf("hub: %s: the hub says: %.200s", id, files.Message)
	}
	r := &Repo{ID: id, Ref: ref, Commit: ref}
	for _, f := range files.Data.Files {
		if f.Type == "tree" {
			continue
		}
		r.Files = append(r.Files, File{Path: f.Path, Size: f.Size, SHA256: strings.ToLower(f.Sha256)})
	}
	var about struct{ Data struct{ License string } }
	if err := c.getJSON(ctx, id, "/api/v1/models/"+id, &about); err != nil {
		return nil, err
	}
	r.License = about.Data.License
	return r, nil
}

// maxAnswer bounds the hubs' listings.
const maxAnswer = 64 << 20

func (c *Client) getJSON(ctx context.Context, id, where string, v any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, errSilent)
	defer cancel()
	res, err := c.get(ctx, c.Endpoint+where, 0)
	if err != nil {
		return c.explain(ctx, id, err)
	}
	defer res.Body.Close()
	if err := status(res); err != nil {
		return fmt.Errorf("hub: %s: %w", id, err)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return c.explain(ctx, id, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("hub: %s: the answer of %s is not the hub's: %w", id, c.Endpoint, err)
	}
	return nil
}

// errSilent is why a request without an answer ended.
var errSilent = errors.New("no answer in time")

// ErrUnreachable says that a hub did not answer.
var ErrUnreachable = errors.New("is unreachable")

// explain turns a failed request into one line with the way out.
func (c *Client) explain(ctx context.Context, id string, err error) error {
	if errors.Is(err, context.Canceled) && context.Cause(ctx) != errSilent {
		return err
	}
	other := "danlu pull " + id + " --hub " + string(c.Kind.Other())
	return fmt.Errorf("hub: %s %w for %s; try: %s", c.Endpoint, ErrUnreachable, c.Timeout, other)
}

// get asks for an address, from an offset on. The token goes to the hub itself only: Go drops it when a redirect leads
// to another host.
func (c *Client) get(ctx context.Context, address string, offset int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "danlu")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	return c.http.Do(req)
}

// status is an error for any answer but the wanted ones.
func status(res *http.Response) error {
	switch res.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("the hub refuses access (%s): accept the model's terms on its page and set HF_TOKEN (MODELSCOPE_API_TOKEN)", res.Status)
	case http.StatusNotFound:
		return fmt.Errorf("is not on the hub (%s)", res.Status)
	}
	return fmt.Errorf("the hub answers %s", res.Status)
}

// Select keeps the files that a model needs: those that match one of the patterns, or without patterns everything but
// weights in a second format.
func (r *Repo) Select(include []string) error {
	if len(include) > 0 {
		var kept []File
		for _, f := range r.Files {
			if slices.ContainsFunc(include, func(p string) bool { return matches(p, f.Path) }) {
				kept = append(kept, f)
			}
		}
		if len(kept) == 0 {
			return fmt.Errorf("hub: %s: no file matches %s", r.ID, strings.Join(include, ", "))
		}
		r.Files = kept
		return nil
	}
	has := func(patterns ...string) bool {
		return slices.ContainsFunc(r.Files, func(f File) bool {
			return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, f.Path) })
		})
	}
	drop := []string{"*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.ot", "*.tflite", "*.mlmodel", "onnx/*", "openvino/*", ".*", "*.png", "*.jpg", "*.gif"}
	switch {
	case has("*.safetensors"):
		drop = append(drop, "*.bin", "*.pth", "*.pt", "*.gguf", "original/*", "pytorch_model.bin.index.json")
	case has("pytorch_model*.bin"):
		drop = append(drop, "*.pth", "*.pt", "*.gguf")
	}
	r.Files = slices.DeleteFunc(r.Files, func(f File) bool {
		return slices.ContainsFunc(drop, func(p string) bool { return matches(p, f.Path) })
	})
	var ggufs []string
	for _, f := range r.Files {
		if part := splitPart.FindStringSubmatch(f.Path); strings.HasSuffix(f.Path, ".gguf") && (part == nil || part[1] == "00001") && !strings.HasPrefix(path.Base(f.Path), "mmproj") {
			ggufs = append(ggufs, f.Path)
		}
	}
	if len(ggufs) > 1 {
		return fmt.Errorf("hub: %s: holds %d GGUF files; choose with --include, such as --include %q (%s)", r.ID, len(ggufs), ggufs[0], strings.Join(ggufs[:min(6, len(ggufs))], ", "))
	}
	return nil
}

var splitPart = regexp.MustCompile(`-(\d{5})-of-\d{5}\.gguf$`)

// matches compares a pattern with a whole path, and without a slash with its last part too.
func matches(pattern, p string) bool {
	if ok, _ := path.Match(pattern, p); ok {
		return true
	}
	ok, _ := path.Match(pattern, path.Base(p))
	return ok && !strings.Contains(pattern, "/")
}
