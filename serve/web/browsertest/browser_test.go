package browsertest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one tab at a server. What it must never do is noted while it works and fails the test at its end.
type browser struct {
	t    *testing.T
	ctx  context.Context
	home string

	mu   sync.Mutex
	seen []string // errors of the console and requests that left the host
}

// names are what Chromium is called.
var names = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"}

// chromium is the path of the browser. A test without one is skipped, loudly.
func chromium(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("DANLU_CHROMIUM"); path != "" {
		return path
	}
	for _, n := range names {
		if path, err := exec.LookPath(n); err == nil {
			return path
		}
	}
	t.Skip("SKIPPED, no page was tested: there is no Chromium; install it (apt-get install chromium) or set DANLU_CHROMIUM")
	return ""
}

// open starts a browser at a server. language is what its user speaks.
func open(t *testing.T, h http.Handler, language string) *browser {
	t.Helper()
	path := chromium(t)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1280, 860),
		chromedp.Flag("lang", language), chromedp.Flag("accept-lang", language), chromedp.Flag("disable-component-update", true), chromedp.Flag("font-render-hinting", "none"))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(t.Logf))
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, home: server.URL}
	chromedp.ListenTarget(ctx, b.listen)
	t.Cleanup(b.check)
	b.dark(false)
	b.run(network.Enable(), log.Enable(), runtime.Enable(), emulation.SetLocaleOverride().WithLocale(language))
	return b
}

// listen notes what must not happen.
func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			b.seen = append(b.seen, fmt.Sprintf("console: %s", e.Args[0].Value))
		}
	case *runtime.EventExceptionThrown:
		b.seen = append(b.seen, "exception: "+e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			b.seen = append(b.seen, fmt.Sprintf("log: %s %s", e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || !strings.HasPrefix(e.Request.URL, b.home) && u.Scheme != "data" && u.Scheme != "blob" && e.Request.URL != "about:blank" {
			b.seen = append(b.seen, "request to "+e.Request.URL)
		}
	}
}

func (b *browser) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.seen {
		b.t.Error(s)
	}
}

// forgive takes back what was noted and contains a text: what a test provokes.
func (b *browser) forgive(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var rest []string
	for _, s := range b.seen {
		if !strings.Contains(s, text) {
			rest = append(rest, s)
		}
	}
	b.seen = rest
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.shoot("failed-" + strings.ReplaceAll(b.t.Name(), "/", "-"))
		b.t.Fatal(err)
	}
}

func (b *browser) visit(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.home + path))
}

// eval is the value of a JavaScript expression.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	var x T
	b.run(chromedp.Evaluate(expression, &x))
	return x
}

// until waits for a JavaScript expression to become true.
func (b *browser) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	var ok bool
	if err := chromedp.Run(ctx, chromedp.Poll(expression, &ok, chromedp.WithPollingInterval(30*time.Millisecond))); err != nil {
		b.shoot("failed-" + strings.ReplaceAll(b.t.Name(), "/", "-"))
		b.t.Fatalf("waiting for %s: %v\nthe page says: %s", expression, err, eval[string](b, "document.body.innerText"))
	}
}

// want holds an expression against a value.
func want[T comparable](b *browser, expression string, value T) {
	b.t.Helper()
	if got := eval[T](b, expression); got != value {
		b.t.Errorf("%s: want %v, got %v", expression, value, got)
	}
}

// phone makes the window that of a phone.
func (b *browser) phone() {
	b.t.Helper()
	b.run(emulation.SetDeviceMetricsOverride(390, 780, 2, true), emulation.SetTouchEmulationEnabled(true))
}

// dark asks for dark pages or light ones, as the system would. Pictures are of pages at rest.
func (b *browser) dark(on bool) {
	b.t.Helper()
	scheme := "light"
	if on {
		scheme = "dark"
	}
	b.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}))
}

// shoot keeps a picture of the page in DANLU_SCREENSHOTS, or in a folder that is named once.
func (b *browser) shoot(name string) {
	var png []byte
	if err := chromedp.Run(b.ctx, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		png, err = page.CaptureScreenshot().Do(ctx)
		return err
	})); err != nil {
		b.t.Logf("no picture: %v", err)
		return
	}
	path := filepath.Join(artifacts(b.t), name+".png")
	if err := os.WriteFile(path, png, 0o644); err != nil {
		b.t.Error(err)
	}
	b.t.Logf("picture: %s", path)
}

// artifacts is the folder of pictures.
func artifacts(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("DANLU_SCREENSHOTS")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "danlu-screenshots")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
