package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// server speaks both hubs' protocols for one model, badly where a test wants it.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	files    map[string][]byte
	requests map[string]int // downloads by path
	ranges   int            // of them, continued ones
	auth     map[string]bool
	// drop ends a download after so many bytes, for the first n times; corrupt flips a byte of the first n.
	drop, dropAfter, corrupt int
	norange, secret          bool
	hostile                  string // a path to list
}

const commit = "0123456789abcdef0123456789abcdef01234567"

func newServer(t *testing.T, kind Kind) (*server, *Client) {
	t.Helper()
	pause = time.Millisecond
	random := rand.New(rand.NewPCG(1, 2))
	big := make([]byte, 700<<10)
	for i := range big {
		big[i] = byte(random.Uint32())
	}
	s := &server{requests: map[string]int{}, auth: map[string]bool{}, files: map[string][]byte{
		"config.json": []byte(`{"architectures":["LlamaForCausalLM"]}`), "model-00001-of-00002.safetensors": big, "model-00002-of-00002.safetensors": big[:1000],
		"sub/tokenizer.json": []byte("{}"), "pytorch_model.bin": big[:10], "README.md": []byte("---\nlicense: mit\n---\n"), "empty.txt": nil,
	}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	home := t.TempDir()
	for name, value := range map[string]string{"HF_HOME": filepath.Join(home, "hf"), "MODELSCOPE_CACHE": filepath.Join(home, "ms"), "HF_ENDPOINT": s.URL, "MODELSCOPE_DOMAIN": s.URL,
		"HF_TOKEN": "secret-token", "MODELSCOPE_API_TOKEN": "secret-token", "HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "", "HF_HUB_CACHE": "", "HUGGINGFACE_HUB_CACHE": "", "HF_HUB_DOWNLOAD_TIMEOUT": "2"} {
		t.Setenv(name, value)
	}
	c, err := New(kind)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auth[r.Header.Get("Authorization")] = true
	if s.secret && r.Header.Get("Authorization") != "Bearer secret-token" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	switch {
	case r.URL.Path == "/api/models/org/name/revision/main":
		var list []map[string]any
		for name, data := range s.files {
			git := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(data)), data...))
			entry := map[string]any{"rfilename": name, "size": len(data), "blobId": hex.EncodeToString(git[:])}
			if strings.HasPrefix(name, "model") {
				sum := sha256.Sum256(data)
				entry["lfs"] = map[string]any{"sha256": hex.EncodeToString(sum[:]), "size": len(data)}
			}
			list = append(list, entry)
		}
		if s.hostile != "" {
			list = append(list, map[string]any{"rfilename": s.hostile, "size": 1})
		}
		json.NewEncoder(w).Encode(map[string]any{"sha": commit, "siblings": list, "cardData": map[string]any{"license": "mit"}})
	case r.URL.Path == "/api/v1/models/org/name/repo/files":
		list := []map[string]any{{"Path": "sub", "Type": "tree"}}
		for name, data := range s.files {
			sum := sha256.Sum256(data)
			list = append(list, map[string]any{"Path": name, "Type": "blob", "Size": len(data), "Sha256": hex.EncodeToString(sum[:])})
		}
		if s.hostile != "" {
			list = append(list, map[string]any{"Path": s.hostile, "Type": "blob", "Size": 1})
		}
		json.NewEncoder(w).Encode(map[string]any{"Code": 200, "Data": map[string]any{"Files": list}})
	case r.URL.Path == "/api/v1/models/org/name":
		json.NewEncoder(w).Encode(map[string]any{"Data": map[string]any{"License": "mit"}})
	case strings.Contains(r.URL.Path, "/resolve/"):
		s.download(w, r, strings.TrimPrefix(r.URL.Path, "/org/name/resolve/"+commit+"/"))
	case r.URL.Query().Get("FilePath") != "":
		s.download(w, r, r.URL.Query().Get("FilePath"))
	default:
		http.NotFound(w, r)
	}
}

func (s *server) download(w http.ResponseWriter, r *http.Request, name string) {
	data, ok := s.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	s.requests[name]++
	offset := 0
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &offset); err == nil && !s.norange {
		s.ranges++
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, len(data)-1, len(data)))
	} else {
		offset = 0
	}
	body := append([]byte(nil), data[offset:]...)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	if offset > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	if s.corrupt > 0 && len(body) > 500 {
		s.corrupt--
		body[len(body)/2] ^= 1
	}
	if s.drop > 0 && len(body) > s.dropAfter {
		s.drop--
		w.Write(body[:s.dropAfter])
		w.(http.Flusher).Flush()
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
		return
	}
	w.Write(body)
}

// pulled downloads the model and compares every file.
func pulled(t *testing.T, s *server, c *Client) string {
	t.Helper()
	r, err := c.Lookup(context.Background(), "org/name", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Select(nil); err != nil {
		t.Fatal(err)
	}
	var last, total int64
	dir, err := c.Pull(context.Background(), r, func(done, all int64) { last, total = done, all })
	if err != nil {
		t.Fatal(err)
	}
	if last != total || total != r.Bytes() || r.License != "mit" {
		t.Errorf("progress %d of %d, want %d; licence %q", last, total, r.Bytes(), r.License)
	}
	for name, want := range s.files {
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if name == "pytorch_model.bin" {
			if err == nil {
				t.Error("weights in a second format were downloaded")
			}
			continue
		}
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found, ok := Find("org/name"); !ok || found != dir {
		t.Errorf("found at %q, want %q", found, dir)
	}
	return dir
}

func TestPull(t *testing.T) {
	for _, kind := range []Kind{HuggingFace, ModelScope} {
		s, c := newServer(t, kind)
		dir := pulled(t, s, c)
		if !s.auth["Bearer secret-token"] {
			t.Errorf("%s: the token was not sent", kind)
		}
		// A second time nothing is downloaded.
		before := len(s.requests)
		s.requests = map[string]int{}
		if pulled(t, s, c); len(s.requests) != 0 {
			t.Errorf("%s: downloaded again: %v (first: %d files)", kind, s.requests, before)
		}
		models, err := List()
		if err != nil || len(models) != 1 || models[0].ID != "org/name" || models[0].Hub != kind || models[0].Path != dir || models[0].Bytes < 700<<10 {
			t.Errorf("%s: list %+v %v", kind, models, err)
		}
		if kind == HuggingFace && runtime.GOOS != "windows" {
			if to, err := os.Readlink(filepath.Join(dir, "sub", "tokenizer.json")); err != nil || !strings.HasPrefix(to, filepath.Join("..", "..", "..", "blobs")) {
				t.Errorf("the snapshot holds %q (%v)", to, err)
			}
			if ref, err := os.ReadFile(filepath.Join(dir, "..", "..", "refs", "main")); err != nil || string(ref) != commit {
				t.Errorf("refs/main: %q %v", ref, err)
			}
		}
		if _, err := Remove("org/other"); err == nil || !strings.Contains(err.Error(), "org/name") {
			t.Errorf("removed what is not there: %v", err)
		}
		if _, err := Remove("org/name"); err != nil {
			t.Error(err)
		}
		if _, ok := Find("org/name"); ok {
			t.Errorf("%s: still there", kind)
		}
	}
}

func TestDroppedConnections(t *testing.T) {
	for _, kind := range []Kind{HuggingFace, ModelScope} {
		s, c := newServer(t, kind)
		s.drop, s.dropAfter = 4, 150<<10
		pulled(t, s, c)
		if s.drop != 0 || s.ranges == 0 {
			t.Errorf("%s: %d drops left, %d continued", kind, s.drop, s.ranges)
		}
	}
	s, c := newServer(t, HuggingFace)
	s.drop, s.dropAfter, s.norange = 2, 150<<10, true
	pulled(t, s, c) // a server that cannot continue starts over

	// What a run that gave up leaves is continued by the next.
	s, c = newServer(t, HuggingFace)
	c.Retries = 0
	s.drop, s.dropAfter = 1, 300<<10
	r, err := c.Lookup(context.Background(), "org/name", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Select(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pull(context.Background(), r, nil); err == nil || !strings.Contains(err.Error(), "run the same command again") {
		t.Fatalf("the drop was not noticed: %v", err)
	}
	if _, ok := Find("org/name"); ok {
		t.Error("an incomplete model was found")
	}
	if left := c.Missing(r); left <= 0 || left > 420<<10 {
		t.Errorf("%d bytes are missing", left)
	}
	pulled(t, s, c)
	if s.ranges != 1 {
		t.Errorf("continued %d times, want once", s.ranges)
	}
}

func TestCorruptBytes(t *testing.T) {
	for _, kind := range []Kind{HuggingFace, ModelScope} {
		s, c := newServer(t, kind)
		s.corrupt = 1
		pulled(t, s, c) // once: fetched again
		s, c = newServer(t, kind)
		s.corrupt = 100
		r, err := c.Lookup(context.Background(), "org/name", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Pull(context.Background(), r, nil); err == nil || !strings.Contains(err.Error(), "checksum") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: damaged files were taken: %v", kind, err)
		}
		if _, ok := Find("org/name"); ok {
			t.Error("a damaged model was found")
		}
	}
}

func TestRefusals(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []Kind{HuggingFace, ModelScope} {
		s, c := newServer(t, kind)
		for _, hostile := range []string{"../evil", "/etc/passwd", `a\b`, "a/../../b", "c:x", "a/./b"} {
			s.hostile = hostile
			if _, err := c.Lookup(ctx, "org/name", ""); err == nil || !strings.Contains(err.Error(), "is not valid") {
				t.Errorf("%s: path %q was taken: %v", kind, hostile, err)
			}
		}
		s.hostile = ""
		if _, err := c.Lookup(ctx, "org/none", ""); err == nil || !strings.Contains(err.Error(), "is not on the hub") {
			t.Errorf("%s: %v", kind, err)
		}
		for _, id := range []string{"name", "../x", "a/b/c", "a/..", "", "a b/c"} {
			if _, err := c.Lookup(ctx, id, ""); err == nil || !strings.Contains(err.Error(), "want ORG/NAME") {
				t.Errorf("%s: id %q: %v", kind, id, err)
			}
		}
		s.secret, c.Token = true, "wrong"
		if _, err := c.Lookup(ctx, "org/name", ""); err == nil || !strings.Contains(err.Error(), "refuses access") {
			t.Errorf("%s: %v", kind, err)
		}
		c.Offline = true
		if _, err := c.Lookup(ctx, "org/name", ""); err == nil || !strings.Contains(err.Error(), "HF_HUB_OFFLINE") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	hang := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer silent.Close()
	defer close(hang)
	for _, kind := range []Kind{HuggingFace, ModelScope} {
		_, c := newServer(t, kind)
		for _, endpoint := range []string{silent.URL, "http://127.0.0.1:1"} {
			c.Endpoint, c.Timeout = endpoint, 100*time.Millisecond
			_, err := c.Lookup(context.Background(), "org/name", "")
			want := "danlu pull org/name --hub " + string(kind.Other())
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", endpoint, err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := c.Lookup(ctx, "org/name", ""); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled pull: %v", err)
		}
	}
}

func TestSelect(t *testing.T) {
	repo := func(names ...string) *Repo {
		r := &Repo{ID: "o/n"}
		for _, n := range names {
			r.Files = append(r.Files, File{Path: n})
		}
		return r
	}
	for _, c := range []struct {
		files, include []string
		want           string // the files kept, or what the error says
	}{
		{[]string{"config.json", "model.safetensors", "pytorch_model.bin", "x.gguf", "onnx/model.onnx", "original/consolidated.00.pth", ".gitattributes"}, nil, "config.json model.safetensors"},
		{[]string{"config.json", "pytorch_model.bin", "flax.msgpack"}, nil, "config.json pytorch_model.bin"},
		{[]string{"a-Q4.gguf", "a-Q8.gguf"}, nil, "choose with --include"},
		{[]string{"a-Q4.gguf", "a-Q8.gguf"}, []string{"*Q8*"}, "a-Q8.gguf"},
		{[]string{"a-00001-of-00002.gguf", "a-00002-of-00002.gguf"}, nil, "a-00001-of-00002.gguf a-00002-of-00002.gguf"},
		{[]string{"a"}, []string{"b"}, "no file matches b"},
	} {
		r := repo(c.files...)
		err := r.Select(c.include)
		var kept []string
		for _, f := range r.Files {
			kept = append(kept, f.Path)
		}
		if err == nil && strings.Join(kept, " ") != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v: %v %v, want %s", c.files, c.include, kept, err, c.want)
		}
	}
}
