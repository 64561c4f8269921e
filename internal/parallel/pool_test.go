package parallel

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

type counter struct {
	hits []atomic.Int32
	busy []atomic.Bool
	bad  atomic.Bool
}

func (c *counter) Do(worker, i int) {
	if c.busy[worker].Swap(true) {
		c.bad.Store(true)
	}
	c.hits[i].Add(1)
	c.busy[worker].Store(false)
}

func TestRunCallsEachIndexOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		p := NewPool(threads)
		if p.Workers() != threads {
			t.Fatalf("Workers: want %d, got %d", threads, p.Workers())
		}
		for _, n := range []int{0, 1, 2, 7, 1000} {
			for round := range 200 {
				c := &counter{hits: make([]atomic.Int32, n), busy: make([]atomic.Bool, threads)}
				p.Run(n, c)
				for i := range c.hits {
					if h := c.hits[i].Load(); h != 1 {
						t.Fatalf("threads %d, n %d, round %d: index %d ran %d times", threads, n, round, i, h)
					}
				}
				if c.bad.Load() {
					t.Fatalf("threads %d: two calls with one worker number overlap", threads)
				}
			}
		}
		p.Close()
	}
}

func TestRunAfterParking(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	for range 20 {
		time.Sleep(time.Millisecond)
		c := &counter{hits: make([]atomic.Int32, 50), busy: make([]atomic.Bool, 3)}
		p.Run(50, c)
		for i := range c.hits {
			if c.hits[i].Load() != 1 {
				t.Fatalf("index %d ran %d times", i, c.hits[i].Load())
			}
		}
	}
}

type taskFunc func(worker, i int)

func (f taskFunc) Do(worker, i int) { f(worker, i) }

func caught(f func()) (r any) {
	defer func() { r = recover() }()
	f()
	return nil
}

func TestPanicReachesCaller(t *testing.T) {
	want := errors.New("boom")
	for _, threads := range []int{1, 2, 4} {
		p := NewPool(threads)
		for round := range 50 {
			r := caught(func() {
				p.Run(100, taskFunc(func(_, i int) {
					if i == round {
						panic(want)
					}
				}))
			})
			if err, _ := r.(error); err != want {
				t.Fatalf("threads %d: want the task's panic, got %v", threads, r)
			}
			var n atomic.Int32
			p.Run(100, taskFunc(func(_, _ int) { n.Add(1) }))
			if n.Load() != 100 {
				t.Fatalf("threads %d: after a panic: %d of 100 calls", threads, n.Load())
			}
		}
		p.Close()
	}
}

func TestNestedRunRefused(t *testing.T) {
	for _, threads := range []int{1, 2} {
		p := NewPool(threads)
		r := caught(func() {
			p.Run(4, taskFunc(func(_, _ int) { p.Run(2, taskFunc(func(_, _ int) {})) }))
		})
		if r == nil {
			t.Errorf("threads %d: want a panic", threads)
		}
		p.Close()
	}
}

func TestCloseEndsWorkers(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		p := NewPool(4)
		p.Run(10, taskFunc(func(_, _ int) {}))
		p.Close()
	}
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("goroutines: %d before, %d after", before, runtime.NumGoroutine())
}

type empty struct{}

func (*empty) Do(_, _ int) {}

func TestRunDoesNotAllocate(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	e := &empty{}
	if n := testing.AllocsPerRun(100, func() { p.Run(8, e) }); n != 0 {
		t.Errorf("allocations per Run: %v", n)
	}
}

func BenchmarkForkJoin(b *testing.B) {
	threads := runtime.NumCPU()
	Configure(threads)
	p := NewPool(threads)
	defer p.Close()
	e := &empty{}
	for b.Loop() {
		p.Run(threads, e)
	}
}

// BenchmarkWake measures how late another goroutine wakes from a 1 ms sleep while the workers compute.
func BenchmarkWake(b *testing.B) {
	threads := runtime.NumCPU()
	Configure(threads)
	p := NewPool(threads)
	defer p.Close()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		spin := taskFunc(func(_, _ int) {
			for t := time.Now(); time.Since(t) < 200*time.Microsecond; {
			}
		})
		for {
			select {
			case <-stop:
				return
			default:
				p.Run(threads, spin)
			}
		}
	}()
	var late time.Duration
	for b.Loop() {
		t := time.Now()
		time.Sleep(time.Millisecond)
		late += time.Since(t) - time.Millisecond
	}
	close(stop)
	<-done
	b.ReportMetric(float64(late.Microseconds())/float64(b.N), "µs-late/op")
}
