package browsertest

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// training is a run folder that grows as a training would make it grow.
type training struct {
	t   *testing.T
	dir string
}

func newTraining(t *testing.T, dir string) *training {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return &training{t, dir}
}

func (r *training) add(file string, line map[string]any) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	if err := json.NewEncoder(f).Encode(line); err != nil {
		r.t.Fatal(err)
	}
}

// steps logs the steps from, from+10, ... up to to.
func (r *training) steps(from, to int, floor float64) {
	for s := from; s <= to; s += 10 {
		wave := math.Sin(float64(s)*1.7) * 0.12
		r.add("metrics.jsonl", map[string]any{"step": s, "epoch": float64(s) / 500, "loss": floor + 3*math.Exp(-float64(s)/250) + wave, "learning_rate": 3e-4 * math.Min(1, float64(s)/100) * (1 - float64(s)/1100),
			"grad_norm": 0.8 + wave, "tokens_per_s": 5200 + 300*wave, "total_tokens": s * 4096, "eta_s": float64(1000-s) / 4})
		r.add("trainer_log.jsonl", map[string]any{"current_steps": s, "total_steps": 1000})
		if s%200 == 0 {
			r.add("metrics.jsonl", map[string]any{"step": s, "epoch": float64(s) / 500, "eval_loss": floor + 0.1 + 3*math.Exp(-float64(s)/250)})
			r.add("samples.jsonl", map[string]any{"step": s, "prompt": "Once upon a time", "text": fmt.Sprintf("there was a fox who lived for %d days in a furnace.", s)})
		}
	}
}

func TestRuns(t *testing.T) {
	folder := t.TempDir()
	one := newTraining(t, filepath.Join(folder, "stories"))
	one.steps(10, 600, 1.4)
	two := newTraining(t, filepath.Join(folder, "lora", "rank-16"))
	two.steps(10, 400, 1.1)
	// A run of another program: a trainer_state.json alone.
	other := newTraining(t, filepath.Join(folder, "trainer"))
	state := `{"global_step":20,"max_steps":40,"log_history":[{"step":10,"epoch":0.5,"loss":2.5,"learning_rate":0.0001},{"step":20,"epoch":1,"loss":2.0,"learning_rate":0.0001}]}`
	if err := os.WriteFile(filepath.Join(other.dir, "trainer_state.json"), []byte(state), 0o644); err != nil {
		t.Fatal(err)
	}
	b := open(t, newAPI(t, folder), "en-US")
	b.visit("/runs")
	b.until(`document.querySelectorAll(".run").length === 3`)
	pick := func(name string) {
		b.run(chromedp.Evaluate(`{ const box = document.querySelector('[data-run="`+name+`"]'); if (!box.checked) box.click(); }`, nil))
		b.until(`document.querySelector('[data-run="` + name + `"]').checked`)
	}
	pick("stories")
	pick("lora/rank-16")
	b.until(`[...document.querySelectorAll(".chart")].length === 5 && document.querySelector(".chart").querySelectorAll(".line").length >= 2`)
	want(b, `[...document.querySelectorAll(".chart figcaption")].map(e => e.textContent).join()`, "Loss,Validation loss,Learning rate,Gradient norm,Tokens per second")
	want(b, `document.querySelectorAll(".run.live").length`, 3)
	want(b, `document.querySelector(".sample .prompt").textContent`, "Once upon a time")
	b.shoot("runs")

	// What is logged now is on the page at the next look.
	one.steps(610, 900, 1.4)
	b.until(`document.querySelector(".run:has([data-run=stories]) .quiet").textContent.includes("900")`)
	b.until(`document.querySelector(".sample").textContent.includes("800 days")`)

	// A log that starts again replaces the curve.
	if err := os.Remove(filepath.Join(one.dir, "metrics.jsonl")); err != nil {
		t.Fatal(err)
	}
	one.steps(10, 60, 1.4)
	b.until(`document.querySelector(".run:has([data-run=stories]) .quiet").textContent.includes("60 of")`)
	b.until(`document.querySelector(".chart svg").getAttribute("aria-label").includes("stories ")`)

	pick("trainer")
	b.until(`document.querySelector(".chart svg").getAttribute("aria-label").includes("trainer 2")`)
	// A pointer over a curve reads its values.
	b.run(chromedp.Evaluate(`{ const s = document.querySelector(".chart svg"), r = s.getBoundingClientRect();
		s.dispatchEvent(new PointerEvent("pointermove", { clientX: r.left + r.width / 2, clientY: r.top + 50, bubbles: true })); }`, nil))
	want(b, `document.querySelector(".tip").hidden`, false)
	b.run(chromedp.Click("#log", chromedp.ByQuery))
	b.dark(true)
	b.shoot("runs-dark")
	b.phone()
	want(b, `document.documentElement.scrollWidth <= 390`, true)
	b.shoot("runs-phone")
}

func TestNoRuns(t *testing.T) {
	b := open(t, newAPI(t, ""), "zh-CN")
	b.visit("/runs")
	b.until(`document.querySelector("#none").textContent.includes("--runs")`)
}

func TestPlan(t *testing.T) {
	b := open(t, newAPI(t, ""), "en-US")
	b.visit("/plan")
	b.until(`document.querySelector("#gpu").options.length > 5 && document.querySelector("#model").value === "7B"`)
	b.until(`!document.querySelector("#sheet").hidden`)
	b.until(`performance.getEntriesByType("resource").some(e => e.name.includes("/plan/sheet") && e.responseEnd > 0)`)
	b.shoot("plan")
	b.visit("/plan/sheet?model=7B&task=qlora&gpu=A100-80GB")
	b.until(`document.querySelectorAll("#bar div").length > 2`)
	b.run(chromedp.Evaluate(`{ const r = document.querySelector("#context"); r.value = r.max; r.dispatchEvent(new Event("input")); }`, nil))
	want(b, `document.querySelector("#context-now").textContent`, "131072")
}
