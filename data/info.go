package data

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"danlu/internal/nearest"
)

// InfoFile is the name of the file that describes the datasets of a folder (LLaMA-Factory's format).
const InfoFile = "dataset_info.json"

// Formattings of a dataset: how its columns make an Example.
const (
	Alpaca   = "alpaca"   // instruction, input, output, history columns
	ShareGPT = "sharegpt" // a list of {from, value}
	OpenAI   = "openai"   // a list of {role, content, tool_calls}
	TRL      = "trl"      // prompt and completion or chosen and rejected, as strings or message lists
	Text     = "text"     // one column of plain text
)

// Columns names the columns of a dataset; an empty name means that there is none. JSON keys are dataset_info.json's.
type Columns struct {
	Prompt   string `json:"prompt"`
	Query    string `json:"query"`
	Response string `json:"response"`
	History  string `json:"history"`
	Messages string `json:"messages"`
	System   string `json:"system"`
	Tools    string `json:"tools"`
	Images   string `json:"images"`
	Videos   string `json:"videos"`
	Audios   string `json:"audios"`
	Chosen   string `json:"chosen"`
	Rejected string `json:"rejected"`
	KTOTag   string `json:"kto_tag"`
}

// Tags names the keys and role words of a conversation.
type Tags struct {
	Role        string `json:"role_tag"`
	Content     string `json:"content_tag"`
	User        string `json:"user_tag"`
	Assistant   string `json:"assistant_tag"`
	Observation string `json:"observation_tag"`
	Function    string `json:"function_tag"`
	System      string `json:"system_tag"`
}

// Attr describes one dataset: where it lies and how its columns are read.
type Attr struct {
	Name       string   // the name in the recipe
	Paths      []string // files or folders
	HubURL     string   // hf_hub_url when the dataset has to be fetched first, with Subset, Split and Folder
	ModelScope string   // ms_hub_url
	Formatting string
	Ranking    bool // preference pairs
	Subset     string
	Split      string // default "train"
	Folder     string
	NumSamples int    // 0: all
	TextUnit   string // for .txt files: ReadOptions.TextUnit
	Detected   bool   // found by Detect, not from dataset_info.json
	Columns    Columns
	Tags       Tags
}

// DefaultColumns and DefaultTags are LLaMA-Factory's, used by entries that name no columns or no tags.
var (
	DefaultColumns = Columns{Prompt: "instruction", Query: "input", Response: "output", Messages: "conversations"}
	DefaultTags    = Tags{Role: "from", Content: "value", User: "human", Assistant: "gpt", Observation: "observation", Function: "function_call", System: "system"}
	// MessageTags are the role words of OpenAI messages.
	MessageTags = Tags{Role: "role", Content: "content", User: "user", Assistant: "assistant", Observation: "tool", Function: "function", System: "system"}
)

// infoEntry is an entry of dataset_info.json.
type infoEntry struct {
	FileName      json.RawMessage `json:"file_name"` // a string, or a list of strings
	HubURL        string          `json:"hf_hub_url"`
	MSHubURL      string          `json:"ms_hub_url"`
	OMHubURL      string          `json:"om_hub_url"`
	ScriptURL     string          `json:"script_url"`
	CloudFileName string          `json:"cloud_file_name"`
	Formatting    string          `json:"formatting"`
	Ranking       bool            `json:"ranking"`
	Subset        string          `json:"subset"`
	Split         string          `json:"split"`
	Folder        string          `json:"folder"`
	NumSamples    *int            `json:"num_samples"`
	TextUnit      string          `json:"text_unit"`
	Columns       *Columns        `json:"columns"`
	Tags          *Tags           `json:"tags"`
}

// ReadInfo reads a dataset_info.json. Unknown keys of an entry are errors, so that a misspelt column cannot pass.
func ReadInfo(path string) (map[string]*Attr, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, fmt.Errorf("data: %s: %w", path, err)
	}
	dir := filepath.Dir(path)
	attrs := make(map[string]*Attr, len(entries))
	for name, raw := range entries {
		a, err := parseEntry(name, raw, dir)
		if err != nil {
			return nil, fmt.Errorf("data: %s: %w", path, err)
		}
		attrs[name] = a
	}
	return attrs, nil
}

func parseEntry(name string, raw json.RawMessage, dir string) (*Attr, error) {
	var e infoEntry
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	a := &Attr{
		Name: name, HubURL: e.HubURL, ModelScope: e.MSHubURL, Formatting: e.Formatting, Ranking: e.Ranking,
		Subset: e.Subset, Split: e.Split, Folder: e.Folder, TextUnit: e.TextUnit, Columns: DefaultColumns, Tags: DefaultTags,
	}
	if a.Formatting == "" {
		a.Formatting = Alpaca
	}
	if a.Split == "" {
		a.Split = "train"
	}
	if e.NumSamples != nil {
		if *e.NumSamples <= 0 {
			return nil, fmt.Errorf("%s: num_samples: want at least 1, got %d", name, *e.NumSamples)
		}
		a.NumSamples = *e.NumSamples
	}
	switch a.Formatting {
	case Alpaca, ShareGPT:
	case OpenAI:
		a.Columns.Messages, a.Tags = "messages", MessageTags
	case TRL:
		a.Columns, a.Tags = Columns{Prompt: "prompt", Response: "completion", Chosen: "chosen", Rejected: "rejected", KTOTag: "label"}, MessageTags
	case Text:
		a.Columns = Columns{Prompt: "text"}
	default:
		return nil, fmt.Errorf("%s: formatting: want alpaca, sharegpt, openai, trl or text, got %q", name, a.Formatting)
	}
	if e.Columns != nil {
		a.Columns = *e.Columns
	}
	if e.Tags != nil {
		a.Tags = *e.Tags
	}
	if len(e.FileName) > 0 && string(e.FileName) != "null" {
		var one string
		var many []string
		if json.Unmarshal(e.FileName, &one) == nil {
			many = []string{one}
		} else if err := json.Unmarshal(e.FileName, &many); err != nil {
			return nil, fmt.Errorf("%s: file_name: want a string or a list of strings", name)
		}
		for _, f := range many {
			if f == "" {
				return nil, fmt.Errorf("%s: file_name is empty", name)
			}
			if !filepath.IsAbs(f) {
				f = filepath.Join(dir, filepath.FromSlash(f))
			}
			a.Paths = append(a.Paths, f)
		}
	}
	switch {
	case len(a.Paths) > 0, a.HubURL != "", a.ModelScope != "":
	case e.ScriptURL != "":
		// A loading script is Python; it is refused when the dataset is used, not when it is merely listed.
		a.HubURL = "script:" + e.ScriptURL
	case e.CloudFileName != "":
		a.HubURL = "cloud:" + e.CloudFileName
	case e.OMHubURL != "":
		a.HubURL = "om:" + e.OMHubURL
	default:
		return nil, fmt.Errorf("%s: want file_name, hf_hub_url or ms_hub_url", name)
	}
	return a, nil
}

// Find resolves the datasets of a recipe: each name is an entry of dir/dataset_info.json, else a path (as given, else
// under dir) whose format is detected. Detected entries have Detected set; print Attr.String for them.
func Find(names []string, dir string) ([]*Attr, error) {
	info := map[string]*Attr{}
	path := filepath.Join(dir, InfoFile)
	if _, err := os.Stat(path); err == nil {
		if info, err = ReadInfo(path); err != nil {
			return nil, err
		}
	}
	var attrs []*Attr
	for _, name := range names {
		name = strings.TrimSpace(name)
		if name == "" {
			return nil, fmt.Errorf("data: dataset: an empty name in the list")
		}
		if a, ok := info[name]; ok {
			if err := a.check(); err != nil {
				return nil, err
			}
			attrs = append(attrs, a)
			continue
		}
		p := name
		if _, err := os.Stat(p); err != nil {
			p = filepath.Join(dir, filepath.FromSlash(name))
			if _, err := os.Stat(p); err != nil {
				return nil, fmt.Errorf("data: dataset %q: neither an entry of %s nor a file%s", name, path, didYouMean(name, info))
			}
		}
		a, err := Detect(p)
		if err != nil {
			return nil, err
		}
		a.Name = name
		attrs = append(attrs, a)
	}
	return attrs, nil
}

func (a *Attr) check() error {
	kind, ref, ok := strings.Cut(a.HubURL, ":")
	if !ok || len(a.Paths) > 0 {
		return nil
	}
	switch kind {
	case "script":
		return fmt.Errorf("data: dataset %s: script_url %s: loading scripts are Python; export the data to .jsonl or .parquet and use file_name", a.Name, ref)
	case "cloud":
		return fmt.Errorf("data: dataset %s: cloud_file_name %s: fetch the file first and use file_name", a.Name, ref)
	case "om":
		return fmt.Errorf("data: dataset %s: om_hub_url %s: this hub is not supported; fetch the files first and use file_name", a.Name, ref)
	}
	return nil
}

func didYouMean(name string, info map[string]*Attr) string {
	best := nearest.Of(name, slices.Collect(maps.Keys(info)))
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// String says how the dataset is read, in one line.
func (a *Attr) String() string {
	var parts []string
	add := func(key, column string) {
		if column != "" {
			parts = append(parts, key+"="+column)
		}
	}
	c := a.Columns
	switch a.Formatting {
	case ShareGPT, OpenAI:
		add("messages", c.Messages)
		add("roles", a.Tags.Role+"/"+a.Tags.Content)
	default:
		add("prompt", c.Prompt)
		add("query", c.Query)
		add("response", c.Response)
		add("history", c.History)
	}
	add("system", c.System)
	add("tools", c.Tools)
	add("images", c.Images)
	if a.Ranking {
		add("chosen", c.Chosen)
		add("rejected", c.Rejected)
	}
	add("kto_tag", c.KTOTag)
	if a.TextUnit != "" {
		add("one record per", a.TextUnit)
	}
	return fmt.Sprintf("%s: %s (%s)", a.Name, a.Formatting, strings.Join(parts, ", "))
}
