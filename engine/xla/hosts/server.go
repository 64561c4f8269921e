package hosts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"
	"unsafe"
)

// server is what rank 0 runs.
type server struct {
	nodes  int
	listen net.Listener

	mu      sync.Mutex
	changed *sync.Cond
	values  map[string][]byte
	members map[int]*link    // who has said hello
	data    map[int]net.Conn // who is ready for sums
	left    int              // who has said goodbye
	fault   string           // why the run has failed; "": it has not
	closed  bool
}

func serve(o Options) (*server, error) {
	_, port, err := net.SplitHostPort(o.Coordinator)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort("", port))
	if err != nil {
		return nil, err
	}
	s := &server{nodes: o.Nodes, listen: l, values: map[string][]byte{}, members: map[int]*link{}, data: map[int]net.Conn{}}
	s.changed = sync.NewCond(&s.mu)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.handle(newLink(c))
		}
	}()
	return s, nil
}

// close ends the server once all have said goodbye, or a moment later: their last words may be on the way.
func (s *server) close() {
	deadline := time.Now().Add(2 * time.Second)
	s.mu.Lock()
	for s.left < len(s.members) && s.fault == "" && time.Now().Before(deadline) {
		s.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		s.mu.Lock()
	}
	s.closed = true
	for _, m := range s.members {
		m.Close()
	}
	for _, d := range s.data {
		d.Close()
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	s.listen.Close()
}

// fail notes why the run has failed and tells everyone.
func (s *server) fail(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != "" || s.closed {
		return
	}
	s.fault = why
	for _, m := range s.members {
		m.SetWriteDeadline(time.Now().Add(time.Second))
		_ = m.out.Encode(reply{Error: why}) // one that cannot be told finds its connection closed
	}
	for _, d := range s.data {
		d.Close()
	}
	s.changed.Broadcast()
}

func (s *server) handle(l *link) {
	var r request
	if l.in.Decode(&r) != nil {
		l.Close()
		return
	}
	switch r.Kind {
	case "hello":
		s.hello(l, r)
		return
	case "sum":
		s.join(l, r.Rank)
		return
	}
	defer l.Close()
	var a reply
	switch r.Kind {
	case "put":
		s.mu.Lock()
		s.values[r.Key] = r.Value
		s.changed.Broadcast()
		s.mu.Unlock()
	case "try":
		s.mu.Lock()
		v, ok := s.values[r.Key]
		s.mu.Unlock()
		a = reply{Value: v, Missing: !ok}
	case "get":
		err := s.wait(r.Timeout, func() bool { _, ok := s.values[r.Key]; return ok }, func() string {
			return fmt.Sprintf("key %q: had no value after %v", r.Key, r.Timeout)
		})
		if err != nil {
			a.Error = err.Error()
		} else {
			s.mu.Lock()
			a.Value = s.values[r.Key]
			s.mu.Unlock()
		}
	default:
		a.Error = fmt.Sprintf("%q: is no request", r.Kind)
	}
	_ = l.out.Encode(a)
}

// wait waits until ready holds, the run fails or time is up.
func (s *server) wait(timeout time.Duration, ready func() bool, late func() string) error {
	timer := time.AfterFunc(timeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer timer.Stop()
	deadline := time.Now().Add(timeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	for !ready() {
		switch {
		case s.fault != "":
			return errors.New(s.fault)
		case s.closed:
			return errors.New("rank 0 is gone")
		case !time.Now().Before(deadline):
			return errors.New(late())
		}
		s.changed.Wait()
	}
	return nil
}

// hello takes a process in, answers when all are there, and watches its connection from then on.
func (s *server) hello(l *link, r request) {
	if why := s.admit(l, r); why != "" {
		_ = l.out.Encode(reply{Error: why})
		l.Close()
		return
	}
	err := s.wait(r.Timeout, func() bool { return len(s.members) == s.nodes }, func() string {
		return fmt.Sprintf("waited for rank %v: did not come", s.absent())
	})
	if err != nil {
		_ = l.out.Encode(reply{Error: err.Error()})
		s.mu.Lock()
		delete(s.members, r.Rank)
		s.mu.Unlock()
		l.Close()
		return
	}
	s.mu.Lock()
	err = l.out.Encode(reply{})
	s.mu.Unlock()
	var last request
	if err == nil {
		err = l.in.Decode(&last)
	}
	if err == nil && last.Kind == "bye" {
		s.mu.Lock()
		s.left++
		s.mu.Unlock()
		return
	}
	s.fail(fmt.Sprintf("rank %d is gone; start all ranks again: they go on from the newest checkpoint", r.Rank))
}

// admit checks a newcomer; "" means that it is in.
func (s *server) admit(l *link, r request) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fault != "":
		return "came to a run that has failed: " + s.fault
	case r.Nodes != s.nodes:
		return fmt.Sprintf("rank %d was started with %d nodes, rank 0 with %d", r.Rank, r.Nodes, s.nodes)
	case r.Rank < 0 || r.Rank >= s.nodes:
		return fmt.Sprintf("rank %d: is not among %d nodes", r.Rank, s.nodes)
	case s.members[r.Rank] != nil:
		return fmt.Sprintf("rank %d: is there already; each process needs a rank of its own", r.Rank)
	}
	s.members[r.Rank] = l
	s.changed.Broadcast()
	return ""
}

// absent lists the ranks that have not come.
func (s *server) absent() []int {
	var list []int
	for r := range s.nodes {
		if s.members[r] == nil {
			list = append(list, r)
		}
	}
	return list
}

// join takes a connection for sums; the last one starts the adding.
func (s *server) join(l *link, rank int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data[rank] != nil || s.closed || s.fault != "" || l.out.Encode(reply{}) != nil {
		l.Close()
		return
	}
	s.data[rank] = l.Conn
	if len(s.data) == s.nodes {
		go s.add()
	}
}

// add adds up blocks, one from each rank in turn, and sends the sum to all, until a connection ends.
func (s *server) add() {
	conns := make([]net.Conn, s.nodes)
	s.mu.Lock()
	for r, c := range s.data {
		conns[r] = c
	}
	s.mu.Unlock()
	var sum, x []byte
	for {
		for r, c := range conns {
			n, err := blockSize(c)
			if err != nil {
				return // the control connection tells why
			}
			if r == 0 {
				sum, x = resize(sum, n), resize(x, n)
				_, err = io.ReadFull(c, sum)
			} else if n != len(sum) {
				s.fail(fmt.Sprintf("rank %d sums %d bytes where rank 0 sums %d: are recipes and binaries the same?", r, n, len(sum)))
				return
			} else if _, err = io.ReadFull(c, x); err == nil {
				addInto(sum, x)
			}
			if err != nil {
				return
			}
		}
		for _, c := range conns {
			if writeBlock(c, sum) != nil {
				return
			}
		}
	}
}

func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// addInto adds float32 numbers.
func addInto(sum, x []byte) {
	if len(sum) == 0 {
		return
	}
	a, b := unsafe.Slice((*float32)(unsafe.Pointer(&sum[0])), len(sum)/4), unsafe.Slice((*float32)(unsafe.Pointer(&x[0])), len(x)/4)
	for i := range a {
		a[i] += b[i]
	}
}

// maxBlock bounds what one sum takes, against a stray connection.
const maxBlock = math.MaxInt32 * 16

func blockSize(c net.Conn) (int, error) {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxBlock || n%4 != 0 {
		return 0, fmt.Errorf("a block of %d bytes", n)
	}
	return int(n), nil
}

func writeBlock(c net.Conn, x []byte) error {
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], uint64(len(x)))
	if _, err := c.Write(head[:]); err != nil {
		return err
	}
	_, err := c.Write(x)
	return err
}

func readBlock(c net.Conn, x []byte) error {
	n, err := blockSize(c)
	if err != nil {
		return err
	}
	if n != len(x) {
		return fmt.Errorf("a sum of %d bytes, want %d", n, len(x))
	}
	_, err = io.ReadFull(c, x)
	return err
}
