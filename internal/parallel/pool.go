// Package parallel runs fork-join loops on a fixed set of persistent workers. A fork and join costs about a microsecond and
// allocates nothing. Which worker runs which index depends on timing, so a task's result must not depend on its worker.
package parallel

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Task is a loop body. Do is called once for each index; calls with the same worker number never overlap,
// so worker (in [0, Workers())) may select scratch memory.
type Task interface {
	Do(worker, i int)
}

// spinTime is how long an idle worker polls for the next Run before it parks. Kernel calls of one program follow one
// another within a few microseconds, so a worker parks only between programs.
const spinTime = 50 * time.Microsecond

type padding [64]byte

// Pool is a set of workers. Its methods are safe for use by several goroutines only under Lock.
type Pool struct {
	mu      sync.Mutex
	threads int

	task  Task // set before state opens, read after joining
	limit int64

	_     padding
	state atomic.Uint64 // generation<<16 | joined workers<<1 | open
	_     padding
	next  atomic.Int64 // the next index to claim
	_     padding
	left  atomic.Int64 // workers that joined this generation and have finished
	_     padding

	busy       atomic.Bool
	closed     atomic.Bool
	callerWait atomic.Bool
	callerWake chan struct{}
	workers    []worker

	fault   atomic.Bool
	faultMu sync.Mutex
	reason  any
}

type worker struct {
	parked atomic.Bool
	wake   chan struct{}
	_      padding
}

// Configure lets the Go scheduler use threads workers (fewer than 1: one per core) and two more threads. Without the
// spare ones other goroutines (signals, servers, progress) were measured to wake 16 ms late while the workers compute; with
// them, 0.15 ms.
func Configure(threads int) {
	if threads < 1 {
		threads = runtime.NumCPU()
	}
	runtime.GOMAXPROCS(threads + 2)
}

// NewPool starts a pool of the given number of threads, the calling one included; fewer than 1 means one per core.
// Close ends it.
func NewPool(threads int) *Pool {
	if threads < 1 {
		threads = runtime.NumCPU()
	}
	threads = min(threads, 1<<14)
	p := &Pool{threads: threads, callerWake: make(chan struct{}, 1), workers: make([]worker, threads-1)}
	for i := range p.workers {
		p.workers[i].wake = make(chan struct{}, 1)
		go p.work(i)
	}
	return p
}

// Workers is the number of threads that run tasks, the caller's included.
func (p *Pool) Workers() int { return p.threads }

// Lock takes the pool for one program: a sequence of Runs from one goroutine.
func (p *Pool) Lock() { p.mu.Lock() }

// Unlock gives the pool to the next program.
func (p *Pool) Unlock() { p.mu.Unlock() }

// Close ends the workers. No Run may be in progress or follow.
func (p *Pool) Close() {
	if p.closed.Swap(true) {
		return
	}
	for i := range p.workers {
		select {
		case p.workers[i].wake <- struct{}{}:
		default:
		}
	}
}

// Run calls task.Do for every i in [0, n) on the workers and the calling goroutine and returns when all calls have
// returned. When a call panics, the indices not yet begun are dropped and Run panics with the same value. A Run inside a
// task, or from a second goroutine without Lock, panics.
func (p *Pool) Run(n int, task Task) {
	if n <= 0 {
		return
	}
	if !p.busy.CompareAndSwap(false, true) {
		panic("parallel: Run: the pool is running a task (nested Run, or two goroutines without Lock)")
	}
	if p.closed.Load() {
		p.busy.Store(false)
		panic("parallel: Run on a closed pool")
	}
	if n == 1 || p.threads == 1 {
		defer p.busy.Store(false)
		for i := range n {
			task.Do(0, i)
		}
		return
	}
	p.task, p.limit = task, int64(n)
	p.next.Store(0)
	p.left.Store(0)
	generation := p.state.Load()>>16 + 1
	p.state.Store(generation<<16 | 1)
	for i := range min(len(p.workers), n-1) {
		if w := &p.workers[i]; w.parked.Load() && w.parked.CompareAndSwap(true, false) {
			w.wake <- struct{}{}
		}
	}
	p.loop(0)
	p.join()
	p.task = nil
	var reason any
	failed := p.fault.Load()
	if failed {
		reason, p.reason = p.reason, nil
		p.fault.Store(false)
	}
	p.busy.Store(false)
	if failed {
		panic(reason)
	}
}

// join closes the generation, so that workers that wake late stay out of it, and waits for those that came in.
func (p *Pool) join() {
	var joined int64
	for {
		s := p.state.Load()
		if p.state.CompareAndSwap(s, s&^1) {
			joined = int64(s>>1) & 0x7fff
			break
		}
	}
	for spin := 0; spin < 2000; spin++ {
		if p.left.Load() == joined {
			return
		}
	}
	start := time.Now()
	for time.Since(start) < spinTime {
		if p.left.Load() == joined {
			return
		}
	}
	// The worker may have lost its core; give this one up until it is done.
	for p.left.Load() != joined {
		p.callerWait.Store(true)
		if p.left.Load() == joined {
			p.callerWait.Store(false)
			return
		}
		<-p.callerWake
	}
	p.callerWait.Store(false)
}

// loop claims and runs indices until none is left.
func (p *Pool) loop(id int) {
	defer p.rescue()
	task, limit := p.task, p.limit
	for {
		i := p.next.Add(1) - 1
		if i >= limit {
			return
		}
		task.Do(id, int(i))
	}
}

// rescue keeps the first panic of a task for the caller and drops the remaining indices.
func (p *Pool) rescue() {
	r := recover()
	if r == nil {
		return
	}
	p.next.Store(p.limit)
	p.faultMu.Lock()
	defer p.faultMu.Unlock()
	if !p.fault.Load() {
		p.reason = r
		if _, ok := r.(error); !ok {
			p.reason = fmt.Sprint(r)
		}
		p.fault.Store(true)
	}
}

func (p *Pool) work(index int) {
	w := &p.workers[index]
	last := uint64(0)
	for {
		if !p.await(w, last) {
			return
		}
		s := p.state.Load()
		if s&1 == 0 || s>>16 == last || !p.state.CompareAndSwap(s, s+2) {
			continue
		}
		last = s >> 16
		p.loop(index + 1)
		p.left.Add(1)
		if p.callerWait.Load() {
			select {
			case p.callerWake <- struct{}{}:
			default:
			}
		}
	}
}

// await returns true when a generation after last is open and false when the pool is closed.
func (p *Pool) await(w *worker, last uint64) bool {
	fresh := func() bool {
		s := p.state.Load()
		return s&1 != 0 && s>>16 != last
	}
	var start time.Time
	for spin := 0; ; spin++ {
		if fresh() {
			return true
		}
		if spin&127 != 127 {
			continue
		}
		if p.closed.Load() {
			return false
		}
		if start.IsZero() {
			start = time.Now()
		} else if time.Since(start) > spinTime {
			break
		}
	}
	w.parked.Store(true)
	if fresh() || p.closed.Load() {
		if w.parked.CompareAndSwap(true, false) {
			return !p.closed.Load()
		}
	}
	<-w.wake
	w.parked.Store(false)
	return !p.closed.Load()
}
