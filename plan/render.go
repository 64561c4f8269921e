package plan

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"

	"danlu/internal/locale"
	"danlu/internal/progress"
)

// Formats of the reference table; JSON is another.
const (
	TextFormat = "text"
	Markdown   = "md"
	CSV        = "csv"
)

// Formats lists them.
var Formats = []string{TextFormat, Markdown, CSV}

// lines writes pairs in two columns, by the cells that a terminal gives them.
func lines(w io.Writer, rows [][2]string) error {
	width := 0
	for _, r := range rows {
		width = max(width, progress.Width(r[0]))
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(w, "%s%s  %s\n", r[0], strings.Repeat(" ", width-progress.Width(r[0])), r[1]); err != nil {
			return err
		}
	}
	return nil
}

// Write prints a plan for people.
func (p *Plan) Write(w io.Writer) error {
	var rows [][2]string
	row := func(en, zh, format string, args ...any) {
		rows = append(rows, [2]string{locale.Text(en, zh), fmt.Sprintf(format, args...)})
	}
	params := fmt.Sprintf("%.2fB", float64(p.Params)/1e9)
	if p.Active != p.Params {
		params += fmt.Sprintf(locale.Text(", %.2fB active", "，激活 %.2fB"), float64(p.Active)/1e9)
	}
	row("model", "模型", "%s (%s)", p.Model, params)
	work := fmt.Sprintf("%s, %s", p.Task, p.Precision)
	if p.Checkpointing != "" {
		work += locale.Text(", checkpointing ", "，激活重算 ") + string(p.Checkpointing)
	}
	row("task", "任务", locale.Text("%s, %d x %d tokens", "%s，%d x %d token"), work, p.Batch, p.Context)
	row("cards", "显卡", "%d x %s (%s)", p.GPUs, p.GPU, p.Layout)
	verdict := locale.Text("fits", "可以放下")
	if !p.Fits {
		verdict = locale.Text("DOES NOT FIT", "放不下")
	}
	row("memory of a card", "单卡显存", locale.Text("%s of %s: %s", "%s / %s：%s"), progress.Bytes(p.Memory.Total), progress.Bytes(p.GPUMemory), verdict)
	for _, part := range []struct {
		en, zh string
		bytes  int64
	}{
		{"weights", "权重", p.Memory.Weights}, {"gradients", "梯度", p.Memory.Gradients}, {"optimizer", "优化器", p.Memory.Optimizer}, {"activations", "激活", p.Memory.Activations},
		{"KV cache", "KV 缓存", p.Memory.KVCache}, {"temporary", "临时", p.Memory.Temporary}, {"reserved", "预留", p.Memory.Reserved},
	} {
		if part.bytes > 0 {
			row("  "+part.en, "  "+part.zh, "%s", progress.Bytes(part.bytes))
		}
	}
	if p.CPUMemory > 0 {
		row("on one card", "不切分时", "%s", progress.Bytes(p.Whole.Total))
		row("CPU memory", "内存", locale.Text("%s a machine", "每台 %s"), progress.Bytes(p.CPUMemory))
	}
	row("disk", "磁盘", "%s", progress.Bytes(p.Disk))
	if p.TokensPerS > 0 {
		row("speed", "速度", locale.Text("%s tokens/s", "%s token/s"), thousands(p.TokensPerS))
	}
	for _, e := range p.Exchanges {
		row("exchange", "通信", "%v", e)
	}
	if p.Task == Inference {
		row("a token", "单 token 延迟", locale.Text("%.1f ms; prompts %s tokens/s", "%.1f 毫秒；提示词 %s token/s"), p.LatencyMS, thousands(p.PrefillPerS))
		row("users", "并发用户", locale.Text("%d at a time, %d tokens each", "同时 %d 个，每个 %d token"), p.Users, p.Context)
	}
	if p.Tokens > 0 {
		row("time", "时间", locale.Text("%s for %.3g tokens (%s card-hours)", "%s，共 %.3g token（%s 卡时）"), duration(p.Hours), p.Tokens, thousands(p.GPUHours))
		if p.Price > 0 {
			row("cost", "费用", "$%s", thousands(p.Cost))
		}
		if p.Energy > 0 {
			row("energy", "能耗", "%s kWh", thousands(p.Energy))
		}
	}
	for _, a := range p.Advice {
		row("change", "调整", "%s", a)
	}
	for _, n := range p.Notes {
		row("note", "说明", "%s", n)
	}
	return lines(w, rows)
}

// Write prints the table in one of Formats.
func (t *Table) Write(w io.Writer, format string) error {
	rule, holds := locale.Text("usually quoted", "通行说法"), locale.Text("assumption", "成立条件")
	quoted, stop := rule+locale.Text(": ", "："), locale.Text("; ", "；")
	switch format {
	case TextFormat:
		for _, r := range t.Rows {
			fmt.Fprintf(w, "%s\n", r.Size)
			var rows [][2]string
			for _, c := range r.Cells {
				rows = append(rows, [2]string{"  " + c.Column, c.Computed}, [2]string{"", quoted + c.Quoted + stop + c.Holds})
			}
			if err := lines(w, rows); err != nil {
				return err
			}
		}
		return t.notes(w, "")
	case Markdown:
		head, under := "| |", "|---|"
		for _, c := range t.Rows[0].Cells {
			head, under = head+" "+c.Column+" |", under+"---|"
		}
		fmt.Fprintf(w, "%s\n%s\n", head, under)
		for _, r := range t.Rows {
			line := "| **" + r.Size + "** |"
			for _, c := range r.Cells {
				line += fmt.Sprintf(" **%s**<br>%s%s%s%s |", c.Computed, quoted, c.Quoted, stop, c.Holds)
			}
			fmt.Fprintln(w, line)
		}
		fmt.Fprintln(w)
		return t.notes(w, "- ")
	case CSV:
		out := csv.NewWriter(w)
		head := []string{locale.Text("size", "规模")}
		for _, c := range t.Rows[0].Cells {
			head = append(head, c.Column, c.Column+" ("+rule+")", c.Column+" ("+holds+")")
		}
		if err := out.Write(head); err != nil {
			return err
		}
		for _, r := range t.Rows {
			line := []string{r.Size}
			for _, c := range r.Cells {
				line = append(line, c.Computed, c.Quoted, c.Holds)
			}
			if err := out.Write(line); err != nil {
				return err
			}
		}
		out.Flush()
		return out.Error()
	}
	return fmt.Errorf("plan: format: want %s, got %q", strings.Join(Formats, ", "), format)
}

func (t *Table) notes(w io.Writer, mark string) error {
	for _, n := range t.Notes {
		if _, err := fmt.Fprintf(w, "%s%s\n", mark, n); err != nil {
			return err
		}
	}
	return nil
}
