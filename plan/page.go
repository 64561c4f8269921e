package plan

import (
	_ "embed"
	"html/template"
	"io"
	"slices"

	"danlu/internal/locale"
)

//go:embed page.html
var pageFile string

var page = template.Must(template.New("page").Parse(pageFile))

// grid is every plan that the page's sliders reach: by context, then batch, then precision.
type grid struct {
	Context   []int       `json:"context"`
	Batch     []int       `json:"batch"`
	Precision []Precision `json:"precision"`
	Start     [3]int      `json:"start"` // where the sliders stand: the request
	Plans     []*Plan     `json:"plans"`
}

// with puts what was asked for among the marks of a slider, and says where.
func with(marks []int, asked int) ([]int, int) {
	if !slices.Contains(marks, asked) {
		marks = append(marks, asked)
		slices.Sort(marks)
	}
	return marks, slices.Index(marks, asked)
}

// WritePage writes one HTML file without outside parts: sliders for context, batch and precision, and one card's memory
// as a stacked bar. All plans are computed here; the page only shows them.
func WritePage(w io.Writer, q Request) error {
	if err := q.complete(); err != nil {
		return err
	}
	var g grid
	g.Context, g.Start[0] = with([]int{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072}, q.Context)
	g.Batch, g.Start[1] = with([]int{1, 2, 4, 8, 16, 32, 64}, q.Batch)
	for _, p := range Precisions {
		try := q
		if try.Precision = p; try.complete() == nil {
			g.Precision = append(g.Precision, p)
		}
	}
	g.Start[2] = slices.Index(g.Precision, q.Precision)
	for _, q.Context = range g.Context {
		for _, q.Batch = range g.Batch {
			for _, q.Precision = range g.Precision {
				p, err := New(q)
				if err != nil {
					return err
				}
				g.Plans = append(g.Plans, p)
			}
		}
	}
	return page.Execute(w, map[string]any{
		"Lang": locale.Text("en", "zh"), "Title": q.shape.Name + " · " + string(q.Task) + " · " + q.GPU.Name, "Grid": g,
		"Words": map[string]string{
			"context": locale.Text("context", "上下文"), "batch": locale.Text("batch", "批大小"), "precision": locale.Text("precision", "精度"),
			"weights": locale.Text("weights", "权重"), "gradients": locale.Text("gradients", "梯度"), "optimizer": locale.Text("optimizer", "优化器"),
			"activations": locale.Text("activations", "激活"), "kv_cache": locale.Text("KV cache", "KV 缓存"), "temporary": locale.Text("temporary", "临时"),
			"reserved": locale.Text("reserved", "预留"), "card": locale.Text("memory of a card", "单卡显存"), "cards": locale.Text("cards", "显卡"),
			"speed": locale.Text("tokens/s", "token/s"), "users": locale.Text("users at a time", "并发用户"), "hours": locale.Text("hours", "小时"), "cost": locale.Text("cost", "费用"),
			"fits": locale.Text("fits", "可以放下"), "not": locale.Text("does not fit", "放不下"),
		},
	})
}
