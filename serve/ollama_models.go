package serve

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"
)

// ollamaVersion is the version of Ollama whose API is spoken here; clients look at it for what they may ask.
const ollamaVersion = "0.12.0"

// ollamaCard is a model in Ollama's lists.
type ollamaCard struct {
	Name     string        `json:"name"`
	Model    string        `json:"model"`
	Modified time.Time     `json:"modified_at"`
	Size     int64         `json:"size"`
	Digest   string        `json:"digest"` // of name, size and time: enough to tell models apart
	Details  ollamaDetails `json:"details"`
	Expires  *time.Time    `json:"expires_at,omitempty"`
	Context  int           `json:"context_length,omitempty"`
}

type ollamaDetails struct {
	Parent   string   `json:"parent_model"`
	Format   string   `json:"format"`
	Family   string   `json:"family"`
	Families []string `json:"families"`
	Size     string   `json:"parameter_size"`
	Storage  string   `json:"quantization_level"`
}

func (m *Model) ollamaCard() ollamaCard {
	sum := sha256.Sum256(fmt.Append(nil, m.ID, m.Files.Bytes, m.Created.UnixNano()))
	return ollamaCard{Name: m.ID, Model: m.ID, Modified: m.Created.UTC(), Size: m.Files.Bytes, Digest: hex.EncodeToString(sum[:]), Details: m.ollamaDetails()}
}

func (m *Model) ollamaDetails() ollamaDetails {
	name := m.Runner.Info().Family
	parent := ""
	if m.base != nil {
		parent = m.base.ID
	}
	return ollamaDetails{Parent: parent, Format: m.Files.Format, Family: name, Families: []string{name}, Size: billions(m.Files.Parameters), Storage: m.Files.Storage}
}

// billions is a number of parameters as model names spell it: 135M, 7.6B.
func billions(n int64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.0fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1fB", float64(n)/1e9)
}

func (s *Server) ollamaTags(w http.ResponseWriter, _ *http.Request) *apiError {
	list := []ollamaCard{}
	for _, m := range s.models {
		list = append(list, m.ollamaCard())
	}
	writeJSON(w, map[string]any{"models": list})
	return nil
}

// never is when a served model is unloaded.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *Server) ollamaRunning(w http.ResponseWriter, _ *http.Request) *apiError {
	list := []ollamaCard{}
	for _, m := range s.models {
		c := m.ollamaCard()
		c.Expires, c.Context = &never, m.Runner.Context()
		list = append(list, c)
	}
	writeJSON(w, map[string]any{"models": list})
	return nil
}

func (s *Server) ollamaShow(w http.ResponseWriter, q *http.Request) *apiError {
	f, e := s.body(w, q)
	if e != nil {
		return e
	}
	s.fromOllama(f)
	f.take("stream")
	f.rename("name", "model") // an older word for it
	f.bool("verbose", new(bool))
	m := s.named(f)
	if e := f.done(); e != nil {
		return e
	}
	info := m.Runner.Info()
	template := ""
	if m.Dialect != nil && m.Dialect.Template != nil {
		template = m.Dialect.Template.Source()
	}
	writeJSON(w, map[string]any{
		"modelfile": "FROM " + m.ID, "parameters": "", "template": template, "license": "", "details": m.ollamaDetails(), "modified_at": m.Created.UTC(), "capabilities": m.abilities(),
		"model_info": map[string]any{
			"general.architecture": info.Family, "general.parameter_count": m.Files.Parameters, info.Family + ".context_length": m.Runner.Context(),
			info.Family + ".embedding_length": info.HiddenSize, info.Family + ".block_count": info.NumLayers, info.Family + ".vocab_size": info.VocabSize,
		},
	})
	return nil
}

func (s *Server) ollamaVersion(w http.ResponseWriter, _ *http.Request) *apiError {
	writeJSON(w, map[string]string{"version": ollamaVersion})
	return nil
}
