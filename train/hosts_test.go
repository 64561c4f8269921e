//go:build !noxla

package train

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"danlu/engine/xla"
	"danlu/engine/xla/hosts"
)

// TestHostMember is not a test of its own: TestHostsTrainAlike starts it as a process of a run.
func TestHostMember(t *testing.T) {
	if os.Getenv("DANLU_TEST_RANK") == "" {
		t.Skip("is started by TestHostsTrainAlike")
	}
	number := func(name string) int {
		n, err := strconv.Atoi(os.Getenv(name))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	eng := newXLA(t, xla.Options{})
	o := hosts.Options{Rank: number("DANLU_TEST_RANK"), Nodes: number("DANLU_TEST_NODES"), Coordinator: os.Getenv("DANLU_TEST_AT")}
	if err := eng.(*xla.Engine).Join(o); err != nil {
		t.Fatal(err)
	}
	got := trainedSteps(t, eng, os.Getenv("DANLU_TEST_MODEL"), number("DANLU_TEST_STEPS"))
	for i := range got.loss {
		fmt.Println("STEP", got.loss[i], got.norm[i])
	}
}

// TestHostsTrainAlike trains as two processes and as one.
func TestHostsTrainAlike(t *testing.T) {
	want := trainedSteps(t, newXLA(t, xla.Options{}), tinyConfig, 10)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	const nodes = 2
	var members [nodes]*exec.Cmd
	var outs [nodes]strings.Builder
	for r := range nodes {
		c := exec.Command(os.Args[0], "-test.run=^TestHostMember$", "-test.v")
		c.Env = append(os.Environ(), fmt.Sprintf("DANLU_TEST_RANK=%d", r), fmt.Sprintf("DANLU_TEST_NODES=%d", nodes), "DANLU_TEST_AT="+at, "DANLU_TEST_MODEL="+tinyConfig, "DANLU_TEST_STEPS=10")
		c.Stdout, c.Stderr = &outs[r], &outs[r]
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		members[r] = c
	}
	for r, c := range members {
		if err := c.Wait(); err != nil {
			t.Fatalf("rank %d: %v\n%s", r, err, outs[r].String())
		}
		agree(t, readTrace(t, outs[r].String()), want)
	}
}

// readTrace reads what TestHostMember prints.
func readTrace(t *testing.T, text string) trace {
	t.Helper()
	var out trace
	for _, line := range strings.Split(text, "\n") {
		var loss, norm float64
		if n, _ := fmt.Sscanf(line, "STEP %g %g", &loss, &norm); n == 2 {
			out.loss, out.norm = append(out.loss, loss), append(out.norm, norm)
		}
	}
	return out
}
