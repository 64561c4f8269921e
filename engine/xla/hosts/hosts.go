// Package hosts joins the processes of a run that has several: rank 0 keeps a small key-value store on a TCP port, where
// all meet before anything is computed, through which plugins find each other, and which adds up gradients for processors.
//
// A process that goes away without a word is a fault of the whole run: whoever waits for anything is told which rank it
// was, and ends. All ranks are then started again and go on from their newest checkpoint.
package hosts

import (
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"danlu/engine/xla/pjrt"
)

// Options say which process this is.
type Options struct {
	Rank, Nodes int
	Coordinator string        // HOST:PORT of rank 0
	Timeout     time.Duration // for all to come; 0: 5 minutes
}

const defaultTimeout = 5 * time.Minute

func (o Options) check() error {
	switch {
	case o.Nodes < 1 || o.Nodes > maxNodes:
		return fmt.Errorf("nodes: want 1 to %d, got %d", maxNodes, o.Nodes)
	case o.Rank < 0 || o.Rank >= o.Nodes:
		return fmt.Errorf("node rank: want 0 to %d, got %d", o.Nodes-1, o.Rank)
	}
	if _, _, err := net.SplitHostPort(o.Coordinator); err != nil {
		return fmt.Errorf("coordinator: want HOST:PORT, got %q", o.Coordinator)
	}
	return nil
}

const maxNodes = 4096

// request is what a process asks of rank 0.
type request struct {
	Kind        string // hello, put, get, try, sum, bye
	Rank, Nodes int
	Key         string
	Value       []byte
	Timeout     time.Duration
}

// reply is the answer. Missing says that a key has no value.
type reply struct {
	Value   []byte
	Error   string
	Missing bool
}

// Group is this process's membership in a run.
type Group struct {
	Rank, Nodes int
	address     string
	server      *server
	control     *link
	data        net.Conn // for sums
	mu          sync.Mutex
	fault       error // why the run has failed
	done        chan struct{}
}

// link is a connection on which requests and replies are exchanged.
type link struct {
	net.Conn
	in  *gob.Decoder
	out *gob.Encoder
}

func newLink(c net.Conn) *link { return &link{c, gob.NewDecoder(c), gob.NewEncoder(c)} }

// ask sends a request and waits for its answer.
func (l *link) ask(r request) ([]byte, error) {
	if err := l.out.Encode(r); err != nil {
		return nil, err
	}
	var a reply
	if err := l.in.Decode(&a); err != nil {
		return nil, err
	}
	switch {
	case a.Missing:
		return nil, pjrt.ErrNoKey
	case a.Error != "":
		return nil, errors.New(a.Error)
	}
	return a.Value, nil
}

// Join meets the other processes and returns when all are there.
func Join(o Options) (*Group, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	g := &Group{Rank: o.Rank, Nodes: o.Nodes, address: o.Coordinator, done: make(chan struct{})}
	if o.Rank == 0 {
		s, err := serve(o)
		if err != nil {
			return nil, fmt.Errorf("hosts: coordinator %s: %w", o.Coordinator, err)
		}
		g.server = s
	}
	if err := g.meet(o); err != nil {
		if g.server != nil {
			g.server.close()
		}
		return nil, fmt.Errorf("hosts: %w", err)
	}
	go g.watch()
	return g, nil
}

// meet connects to rank 0, which may not have come yet, and waits for all.
func (g *Group) meet(o Options) error {
	deadline := time.Now().Add(o.Timeout)
	for {
		c, err := net.DialTimeout("tcp", g.address, time.Second)
		if err == nil {
			g.control = newLink(c)
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("coordinator %s: cannot be reached within %v: %w", g.address, o.Timeout, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if _, err := g.control.ask(request{Kind: "hello", Rank: g.Rank, Nodes: g.Nodes, Timeout: time.Until(deadline)}); err != nil {
		return errors.Join(err, g.control.Close())
	}
	data, err := net.DialTimeout("tcp", g.address, 10*time.Second)
	if err != nil {
		return errors.Join(err, g.control.Close())
	}
	g.data = data
	// The answer says that what follows is no longer read as requests.
	if _, err := newLink(data).ask(request{Kind: "sum", Rank: g.Rank}); err != nil {
		return errors.Join(err, g.Close())
	}
	return nil
}

// watch waits for word of a fault on the control connection.
func (g *Group) watch() {
	defer close(g.done)
	var a reply
	err := g.control.in.Decode(&a)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.fault != nil: // closed by ourselves
	case err != nil:
		g.fault = errors.New("rank 0 is gone")
	default:
		g.fault = errors.New(a.Error)
	}
	g.data.Close()
}

// because adds why the run has failed, if it has, to an error of a connection.
func (g *Group) because(err error) error {
	if err == nil || errors.Is(err, pjrt.ErrNoKey) {
		return err
	}
	select { // word of the fault may be on its way
	case <-g.done:
	case <-time.After(time.Second):
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fault != nil {
		return fmt.Errorf("hosts: %w", g.fault)
	}
	return fmt.Errorf("hosts: %w", err)
}

// call asks rank 0 on a connection of its own, since an answer may take its time.
func (g *Group) call(r request) ([]byte, error) {
	c, err := net.DialTimeout("tcp", g.address, 10*time.Second)
	if err != nil {
		return nil, g.because(err)
	}
	defer c.Close()
	r.Rank = g.Rank
	v, err := newLink(c).ask(r)
	return v, g.because(err)
}

// Get implements pjrt.KeyValue.
func (g *Group) Get(key string, timeout time.Duration) ([]byte, error) {
	return g.call(request{Kind: "get", Key: key, Timeout: timeout})
}

// TryGet implements pjrt.KeyValue.
func (g *Group) TryGet(key string) ([]byte, error) { return g.call(request{Kind: "try", Key: key}) }

// Put implements pjrt.KeyValue.
func (g *Group) Put(key string, value []byte) error {
	_, err := g.call(request{Kind: "put", Key: key, Value: value})
	return err
}

// Sum replaces x by the sum of all ranks' x, added in the order of the ranks: the same bits on each. All ranks call it the
// same number of times with the same sizes.
func (g *Group) Sum(x []byte) error {
	if err := writeBlock(g.data, x); err != nil {
		return g.because(err)
	}
	return g.because(readBlock(g.data, x))
}

// Agree fails unless all ranks give the same value for a name.
func (g *Group) Agree(name, value string) error {
	if err := g.Put(fmt.Sprintf("agree/%s/%d", name, g.Rank), []byte(value)); err != nil {
		return err
	}
	for r := range g.Nodes {
		other, err := g.Get(fmt.Sprintf("agree/%s/%d", name, r), defaultTimeout)
		if err != nil {
			return err
		}
		if string(other) != value {
			return fmt.Errorf("hosts: %s: is %s on rank %d and %s on rank %d", name, other, r, value, g.Rank)
		}
	}
	return nil
}

// Close says goodbye. The run goes on for the others until they do.
func (g *Group) Close() error {
	g.mu.Lock()
	if g.fault == nil {
		g.fault = errors.New("the group is closed")
	}
	g.mu.Unlock()
	err := g.control.out.Encode(request{Kind: "bye", Rank: g.Rank})
	err = errors.Join(err, g.control.Close())
	if g.data != nil {
		err = errors.Join(err, g.data.Close())
	}
	if g.server != nil {
		g.server.close()
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
