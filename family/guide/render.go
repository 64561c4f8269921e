package guide

import (
	"fmt"
	"html"
	"io"
	"strings"
	"text/tabwriter"
)

// Formats of the guide's tables.
const (
	TextFormat = "text"
	Markdown   = "md"
	HTML       = "html"
)

// Formats lists them.
var Formats = []string{TextFormat, Markdown, HTML}

// table is what every view of the guide comes to: a head and rows of cells.
type table struct {
	head []string
	rows [][]string
}

// List is a line for each version.
func List(w io.Writer, versions []*Version, format string, chinese bool) error {
	t := table{head: words(chinese, "id|编号", "model|模型", "released|发布", "parameters|参数量", "training tokens|训练 token", "context|上下文", "commercial use|商用")}
	for _, v := range versions {
		t.rows = append(t.rows, []string{v.ID, v.Name, v.Released, v.sizes(), v.Tokens, v.Context, commercial(v.Licence.Commercial, chinese)})
	}
	return t.write(w, format)
}

// Compare sets versions side by side, a row for each fact; of one version it shows everything that is known.
func Compare(w io.Writer, versions []*Version, format string, chinese bool) error {
	t := table{head: words(chinese, "|")}
	for _, v := range versions {
		t.head = append(t.head, v.Name)
	}
	row := func(name string, of func(v *Version) string) {
		cells := words(chinese, name)
		some := false
		for _, v := range versions {
			cell := of(v)
			some = some || cell != ""
			cells = append(cells, cell)
		}
		if some {
			t.rows = append(t.rows, cells)
		}
	}
	row("family|家族", func(v *Version) string { return v.Family })
	row("released|发布", func(v *Version) string { return v.Released })
	row("parameters|参数量", (*Version).sizes)
	row("presets|预设", (*Version).presets)
	row("training tokens|训练 token", func(v *Version) string { return v.Tokens })
	row("context|上下文", func(v *Version) string { return v.Context })
	row("tokenizer|分词器", func(v *Version) string { return v.Tokenizer })
	row("vocabulary|词表", func(v *Version) string { return fmt.Sprint(v.Vocab) })
	row("normalisation|归一化", func(v *Version) string { return v.Norm })
	row("activation|激活函数", func(v *Version) string { return v.Activation })
	row("positions|位置编码", func(v *Version) string { return v.Positions })
	row("attention|注意力", func(v *Version) string { return v.Attention })
	row("objective|训练目标", func(v *Version) string { return v.Objective })
	row("strengths|优点", func(v *Version) string { return v.Strengths.In(chinese) })
	row("limits|局限", func(v *Version) string { return v.Limits.In(chinese) })
	row("licence|许可", func(v *Version) string { return v.Licence.Name })
	row("commercial use|商用", func(v *Version) string {
		text := commercial(v.Licence.Commercial, chinese)
		if note := v.Licence.Note.In(chinese); note != "" {
			text += ": " + note
		}
		return text
	})
	row("stated in more than one way|说法不一", func(v *Version) string {
		var parts []string
		for _, d := range v.Disputes {
			parts = append(parts, d.What.In(chinese)+": "+strings.Join(d.Values, " / "))
		}
		return strings.Join(parts, "; ")
	})
	row("sources|来源", func(v *Version) string { return strings.Join(v.Sources, "; ") })
	return t.write(w, format)
}

// words chooses from pairs "English|Chinese".
func words(chinese bool, pairs ...string) []string {
	out := make([]string, len(pairs))
	for i, p := range pairs {
		en, zh, _ := strings.Cut(p, "|")
		out[i] = Text{en, zh}.In(chinese)
	}
	return out
}

func commercial(s string, chinese bool) string {
	switch s {
	case "yes":
		return words(chinese, "yes|可以")[0]
	case "no":
		return words(chinese, "no|不可以")[0]
	}
	return words(chinese, "on conditions|有条件")[0]
}

func (v *Version) sizes() string {
	var names []string
	for _, s := range v.Sizes {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

func (v *Version) presets() string {
	var names []string
	for _, s := range v.Sizes {
		if s.Preset != "" {
			names = append(names, s.Preset)
		}
	}
	return strings.Join(names, ", ")
}

func (t table) write(w io.Writer, format string) error {
	var b strings.Builder
	switch format {
	case TextFormat:
		out := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		for _, r := range append([][]string{t.head}, t.rows...) {
			fmt.Fprintln(out, strings.Join(r, "\t"))
		}
		if err := out.Flush(); err != nil {
			return err
		}
	case Markdown:
		line := func(cells []string) {
			b.WriteString("|")
			for _, c := range cells {
				b.WriteString(" " + strings.ReplaceAll(c, "|", `\|`) + " |")
			}
			b.WriteString("\n")
		}
		line(t.head)
		b.WriteString(strings.Repeat("|---", len(t.head)) + "|\n")
		for _, r := range t.rows {
			line(r)
		}
	case HTML:
		line := func(tag string, cells []string) {
			b.WriteString("<tr>")
			for _, c := range cells {
				fmt.Fprintf(&b, "<%s>%s</%s>", tag, html.EscapeString(c), tag)
			}
			b.WriteString("</tr>\n")
		}
		b.WriteString("<!doctype html>\n<meta charset=\"utf-8\">\n<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:4px 8px;text-align:left;vertical-align:top}</style>\n<table>\n")
		line("th", t.head)
		for _, r := range t.rows {
			line("td", r)
		}
		b.WriteString("</table>\n")
	default:
		return fmt.Errorf("guide: format: want %s, got %q", strings.Join(Formats, ", "), format)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
