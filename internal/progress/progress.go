// Package progress shows how far a long job is: a live bar where standard error is a terminal, else a plain line every
// ten seconds, so that logs stay readable and a silent process is never mistaken for a hung one.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Field is a named value behind the bar, such as {"loss", "2.31"}.
type Field struct{ Name, Value string }

// Options of a Bar.
type Options struct {
	Label   string
	Total   int64 // 0: unknown; then neither bar nor ETA is shown
	Start   int64 // units already done before this process (a resumed run): they do not count for the speed
	Quiet   bool  // write nothing but Print's lines
	Chinese bool  // words in Chinese
}

const (
	liveInterval  = 100 * time.Millisecond
	plainInterval = 10 * time.Second
	window        = time.Minute // over which the speed is measured
)

// Bar is safe for concurrent use.
type Bar struct {
	mu     sync.Mutex
	opt    Options
	out    io.Writer
	live   bool
	colour bool
	width  func() int
	now    func() time.Time
	begun  time.Time
	shown  time.Time
	done   int64
	fields []Field
	marks  []mark // progress within the window, oldest first
	drawn  bool   // a live bar stands on the current line
	closed bool
	stop   chan struct{}
}

type mark struct {
	at   time.Time
	done int64
}

// New starts a bar on f, which is os.Stderr outside of tests. It redraws by itself; Done ends it.
func New(f *os.File, opt Options) *Bar {
	columns, terminal := terminalWidth(f)
	b := newBar(f, opt, terminal && os.Getenv("TERM") != "dumb", os.Getenv("NO_COLOR") == "", func() int {
		if c, ok := terminalWidth(f); ok && c > 0 {
			return c
		}
		return max(columns, 80)
	}, time.Now)
	if !opt.Quiet {
		b.stop = make(chan struct{})
		go b.tick()
	}
	return b
}

func newBar(out io.Writer, opt Options, live, colour bool, width func() int, now func() time.Time) *Bar {
	b := &Bar{opt: opt, out: out, live: live, colour: colour && live, width: width, now: now, done: opt.Start}
	b.begun = now()
	b.marks = []mark{{b.begun, opt.Start}}
	return b
}

// tick keeps the elapsed time moving during long steps.
func (b *Bar) tick() {
	every := time.Second
	if !b.live {
		every = plainInterval
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-t.C:
			b.mu.Lock()
			if !b.closed {
				b.show(false)
			}
			b.mu.Unlock()
		}
	}
}

// Update sets how much is done and the values shown behind it.
func (b *Bar) Update(done int64, fields ...Field) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.done, b.fields = done, append(b.fields[:0], fields...)
	at := b.now()
	b.marks = append(b.marks, mark{at, done})
	cut := 0
	for cut < len(b.marks)-2 && at.Sub(b.marks[cut+1].at) > window {
		cut++
	}
	if len(b.marks) > 4096 { // very short steps: thin out, the ends matter
		cut = max(cut, len(b.marks)/2)
	}
	b.marks = append(b.marks[:0], b.marks[cut:]...)
	b.show(false)
}

// SetTotal changes the total, for jobs that learn it on the way.
func (b *Bar) SetTotal(total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opt.Total = total
}

// Print writes a line of its own above the bar: a sample, a remark. It is written even when Quiet.
func (b *Bar) Print(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.erase()
	fmt.Fprintln(b.out, line)
	if b.live && !b.closed && !b.opt.Quiet {
		b.draw()
	}
}

// Done writes the last state and ends the bar. Later calls do nothing.
func (b *Bar) Done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.show(true)
	b.closed = true
	if b.stop != nil {
		close(b.stop)
	}
	if b.drawn {
		fmt.Fprintln(b.out)
		b.drawn = false
	}
}

// Rate returns the units done per second over the last minute, 0 while unknown.
func (b *Bar) Rate() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rate()
}

func (b *Bar) rate() float64 {
	first, last := b.marks[0], b.marks[len(b.marks)-1]
	seconds := last.at.Sub(first.at).Seconds()
	if !(seconds > 0) || last.done <= first.done {
		return 0
	}
	return float64(last.done-first.done) / seconds
}

// ETA returns the time left, ok false while it is unknown.
func (b *Bar) ETA() (left time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.eta()
}

func (b *Bar) eta() (time.Duration, bool) {
	rate := b.rate()
	if b.opt.Total <= 0 || rate == 0 {
		return 0, false
	}
	seconds := float64(max(b.opt.Total-b.done, 0)) / rate
	seconds -= b.now().Sub(b.marks[len(b.marks)-1].at).Seconds() // time into the running step
	const longest = float64(1<<62) / 1e9
	return time.Duration(min(max(seconds, 0), longest) * 1e9), true
}

func (b *Bar) show(last bool) {
	if b.opt.Quiet {
		return
	}
	at := b.now()
	interval := plainInterval
	if b.live {
		interval = liveInterval
	}
	if !last && !b.shown.IsZero() && at.Sub(b.shown) < interval {
		return
	}
	b.shown = at
	if b.live {
		b.erase()
		b.draw()
		return
	}
	fmt.Fprintln(b.out, b.text(0))
}

func (b *Bar) erase() {
	if b.drawn {
		io.WriteString(b.out, "\r\x1b[K")
		b.drawn = false
	}
}

func (b *Bar) draw() {
	io.WriteString(b.out, b.text(max(b.width()-1, 1))) // the last column would wrap
	b.drawn = true
}

// text is the line for a width in cells; 0 means no bar and no limit.
func (b *Bar) text(width int) string {
	var head, tail strings.Builder
	if b.opt.Label != "" {
		head.WriteString(b.opt.Label)
		head.WriteByte(' ')
	}
	if b.opt.Total > 0 {
		fmt.Fprintf(&tail, "%d/%d %d%%", b.done, b.opt.Total, 100*min(b.done, b.opt.Total)/b.opt.Total)
	} else {
		fmt.Fprintf(&tail, "%d", b.done)
	}
	for _, f := range b.fields {
		fmt.Fprintf(&tail, "  %s %s", f.Name, f.Value)
	}
	elapsed, left := "elapsed", "ETA"
	if b.opt.Chinese {
		elapsed, left = "已用", "剩余"
	}
	fmt.Fprintf(&tail, "  %s %s", elapsed, Duration(b.now().Sub(b.begun)))
	if eta, ok := b.eta(); ok {
		fmt.Fprintf(&tail, "  %s %s", left, Duration(eta))
	}
	if width <= 0 {
		return head.String() + tail.String()
	}
	room := width - Width(head.String()) - Width(tail.String()) - 1
	if b.opt.Total <= 0 || room < 8 {
		return Truncate(head.String()+tail.String(), width)
	}
	room = min(room, 30)
	filled := int(min(b.done, b.opt.Total) * int64(room) / b.opt.Total)
	bar := strings.Repeat("━", filled)
	rest := strings.Repeat("─", room-filled)
	if b.colour {
		bar = "\x1b[36m" + bar + "\x1b[0m"
		rest = "\x1b[2m" + rest + "\x1b[0m"
	}
	return head.String() + bar + rest + " " + tail.String()
}

// Duration writes a time as 45s, 3m05s, 2h07m or 3d04h.
func Duration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", max(s, 0))
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// Bytes writes a size as 512 B, 1.5 KiB, 3.2 GiB.
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if v /= 1024; v < 1023.95 || unit == "PiB" {
			return fmt.Sprintf("%.1f %s", v, unit)
		}
	}
	return ""
}
