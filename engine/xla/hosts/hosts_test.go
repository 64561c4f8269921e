package hosts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"danlu/engine/xla/pjrt"
)

// port is an address that was free a moment ago.
func port(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// together runs f as each rank in this process and returns the ranks' errors.
func together(t *testing.T, n int, f func(g *Group) error) []error {
	t.Helper()
	address, errs := port(t), make([]error, n)
	var wg sync.WaitGroup
	for r := range n {
		wg.Go(func() {
			g, err := Join(Options{Rank: r, Nodes: n, Coordinator: address, Timeout: 10 * time.Second})
			if err == nil {
				err = errors.Join(f(g), g.Close())
			}
			errs[r] = err
		})
	}
	wg.Wait()
	return errs
}

func numbers(x ...float32) []byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func TestStoreAndSums(t *testing.T) {
	for r, err := range together(t, 3, func(g *Group) error {
		if _, err := g.TryGet("absent"); !errors.Is(err, pjrt.ErrNoKey) {
			return fmt.Errorf("an absent key: %v", err)
		}
		if _, err := g.Get("absent", 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "had no value after 10ms") {
			return fmt.Errorf("waiting for an absent key: %v", err)
		}
		if g.Rank == 2 {
			time.Sleep(20 * time.Millisecond)
			if err := g.Put("k", []byte("v")); err != nil {
				return err
			}
		}
		if v, err := g.Get("k", time.Minute); err != nil || string(v) != "v" {
			return fmt.Errorf("got %q, %v", v, err)
		}
		if err := g.Agree("same", "x"); err != nil {
			return err
		}
		if err := g.Agree("different", strconv.Itoa(g.Rank)); err == nil || !strings.Contains(err.Error(), "on rank") {
			return fmt.Errorf("different values: %v", err)
		}
		for i := range 4 {
			x := numbers(float32(g.Rank), float32(i), 0.5)
			if err := g.Sum(x); err != nil {
				return err
			}
			if want := numbers(3, float32(3*i), 1.5); string(x) != string(want) {
				return fmt.Errorf("sum %d: got %v, want %v", i, x, want)
			}
		}
		return g.Agree("end", "x")
	}) {
		if err != nil {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}

func TestSizesDiffer(t *testing.T) {
	for r, err := range together(t, 2, func(g *Group) error { return g.Sum(make([]byte, 4+4*g.Rank)) }) {
		if err == nil || !strings.Contains(err.Error(), "rank 1 sums 8 bytes where rank 0 sums 4") {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Nodes: 0, Coordinator: "a:1"}, "nodes: want 1 to"}, {Options{Nodes: 2, Rank: 2, Coordinator: "a:1"}, "node rank: want 0 to 1, got 2"},
		{Options{Nodes: 2, Coordinator: "nowhere"}, `coordinator: want HOST:PORT, got "nowhere"`},
		{Options{Nodes: 2, Rank: 1, Coordinator: "127.0.0.1:1", Timeout: 200 * time.Millisecond}, "coordinator 127.0.0.1:1: cannot be reached within 200ms"},
	} {
		if _, err := Join(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

// The tests below start real processes: this test's binary again, with a rank in its environment.

func TestMain(m *testing.M) {
	if os.Getenv("HOSTS_RANK") != "" {
		if err := member(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// member is a process of a run that adds up numbers for HOSTS_ROUNDS rounds; it dies after HOSTS_DIES.
func member() error {
	number := func(name string) int { n, _ := strconv.Atoi(os.Getenv(name)); return n }
	g, err := Join(Options{Rank: number("HOSTS_RANK"), Nodes: number("HOSTS_NODES"), Coordinator: os.Getenv("HOSTS_AT"), Timeout: time.Duration(number("HOSTS_TIMEOUT")) * time.Millisecond})
	if err != nil {
		return err
	}
	for i := range number("HOSTS_ROUNDS") {
		if os.Getenv("HOSTS_DIES") != "" && i == number("HOSTS_DIES") {
			os.Exit(9)
		}
		if err := g.Sum(numbers(1)); err != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return g.Close()
}

type process struct {
	*exec.Cmd
	out strings.Builder
}

func start(t *testing.T, address string, rank, nodes int, more ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), fmt.Sprintf("HOSTS_RANK=%d", rank), fmt.Sprintf("HOSTS_NODES=%d", nodes), "HOSTS_AT="+address, "HOSTS_ROUNDS=20", "HOSTS_TIMEOUT=10000")
	p.Env = append(p.Env, more...)
	p.Stdout, p.Stderr = &p.out, &p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// ends waits for a process and compares its last words; "" wants success.
func (p *process) ends(t *testing.T, who, want string) {
	t.Helper()
	err := p.Wait()
	if want == "" && err != nil || !strings.Contains(p.out.String(), want) || want != "" && err == nil {
		t.Errorf("%s: %v, %q; want %q", who, err, p.out.String(), want)
	}
}

func TestProcesses(t *testing.T) {
	address := port(t)
	late := start(t, address, 1, 3)
	time.Sleep(200 * time.Millisecond) // before its coordinator
	first := start(t, address, 0, 3)
	last := start(t, address, 2, 3)
	for i, p := range []*process{first, late, last} {
		p.ends(t, fmt.Sprintf("rank %d", i), "")
	}
}

func TestProcessDies(t *testing.T) {
	address := port(t)
	first, dies, other := start(t, address, 0, 3), start(t, address, 1, 3, "HOSTS_DIES=5"), start(t, address, 2, 3)
	if err := dies.Wait(); err == nil {
		t.Error("the process that dies ended well")
	}
	first.ends(t, "rank 0", "rank 1 is gone; start all ranks again")
	other.ends(t, "rank 2", "rank 1 is gone; start all ranks again")
	// All are started again at the same address.
	again := []*process{start(t, address, 0, 3), start(t, address, 1, 3), start(t, address, 2, 3)}
	for i, p := range again {
		p.ends(t, fmt.Sprintf("rank %d again", i), "")
	}
}

func TestCoordinatorDies(t *testing.T) {
	address := port(t)
	first, other := start(t, address, 0, 2, "HOSTS_DIES=5"), start(t, address, 1, 2)
	if err := first.Wait(); err == nil {
		t.Error("the process that dies ended well")
	}
	other.ends(t, "rank 1", "rank 0 is gone")
}

func TestRankTwice(t *testing.T) {
	address := port(t)
	first, twice := start(t, address, 1, 3, "HOSTS_TIMEOUT=3000"), start(t, address, 0, 3, "HOSTS_TIMEOUT=3000")
	time.Sleep(300 * time.Millisecond)
	start(t, address, 1, 3, "HOSTS_TIMEOUT=3000").ends(t, "the second rank 1", "rank 1: is there already")
	start(t, address, 2, 4).ends(t, "another number of nodes", "rank 2 was started with 4 nodes, rank 0 with 3")
	twice.ends(t, "rank 0", "2]: did not come")
	first.ends(t, "rank 1", "waited for rank")
}
