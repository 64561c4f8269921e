//go:build amd64 || arm64

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// isolated skips a test, loudly, where the system gives no isolation.
func isolated(t *testing.T) {
	t.Helper()
	if err := Check(t.Context()); errors.Is(err, ErrNoIsolation) || err != nil && strings.Contains(err.Error(), "python3: exec") {
		t.Skipf("SKIPPED, nothing was tested: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
}

func TestRun(t *testing.T) {
	isolated(t)
	small := Limits{Time: 20 * time.Second}
	for _, c := range []struct {
		name, code, stdin string
		limits            Limits
		stdout, stderr    string
		exit              int
		over              string
	}{
		{"speaks", "print(sum(range(10)), '中文')", "", small, "45 中文\n", "", 0, ""},
		{"reads", "print(input()[::-1])", "abc\n", small, "cba\n", "", 0, ""},
		{"fails", "raise ValueError('no')", "", small, "", "ValueError: no", 1, ""},
		{"exits", "import sys; sys.exit(7)", "", small, "", "", 7, ""},
		{"crashes", "import ctypes; ctypes.string_at(0)", "", small, "", "", -1, ""},
		{"runs on", "while True: pass", "", Limits{Time: time.Second}, "", "", -1, "time"},
		{"sleeps", "import time; print(1, flush=True); time.sleep(60)", "", Limits{Time: time.Second}, "1\n", "", -1, "time"},
		{"takes memory", "x = bytearray(2 << 30)", "", Limits{Memory: 512 << 20, Time: 20 * time.Second}, "", "MemoryError", 1, ""},
		{"talks on", "while True: print('x' * 1000)", "", Limits{Output: 5000, Time: 20 * time.Second}, strings.Repeat(strings.Repeat("x", 1000)+"\n", 5)[:5000], "", -1, "output"},
		{"writes", "open('a', 'w').write('x'); print(open('/work/a').read())", "", small, "x\n", "", 0, ""},
		{"writes too much", "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); f = open('a', 'wb', 0); f.write(b'x' * 5000); f.write(b'x')", "", Limits{File: 4096, Time: 20 * time.Second}, "", "File too large", 1, ""},
		{"fills the disk", "for i in range(100): open(str(i), 'wb').write(b'x' * 100000)", "", Limits{Storage: 1 << 20, Time: 20 * time.Second}, "", "No space left", 1, ""},
		{"uses threads", "import threading\nt = threading.Thread(target=lambda: print('hi')); t.start(); t.join()", "", small, "hi\n", "", 0, ""},
		{"starts a process", "import subprocess; subprocess.run(['/bin/true'])", "", small, "", "PermissionError", 1, ""},
		{"reaches out", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1/')", "", small, "", "Operation not permitted", 1, ""},
		{"looks around", "import os; print(sorted(os.environ), os.getcwd(), os.listdir('.'), sorted(os.listdir('/'))[:2], os.getpid())", "", small, "", "", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			r, err := Run(t.Context(), c.code, c.stdin, c.limits)
			if err != nil {
				t.Fatal(err)
			}
			if c.name == "looks around" {
				if want := "['HOME', 'LANG', 'PATH', 'TMPDIR'] /work ['main.py'] ['bin', 'dev'] 1\n"; r.Stdout != want {
					t.Errorf("want %q, got %q", want, r.Stdout)
				}
				return
			}
			if r.Stdout != c.stdout || !strings.Contains(r.Stderr, c.stderr) || r.Exit != c.exit || r.Over != c.over {
				t.Errorf("want %.99q, %q, %d, %q; got %.99q, %.999q, %d, %q", c.stdout, c.stderr, c.exit, c.over, r.Stdout, r.Stderr, r.Exit, r.Over)
			}
			if took := time.Since(began); took > c.limits.Time+3*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// What a run leaves behind is nothing: no folder, no process, and no secret of this process reaches it.
func TestNothingGoesThrough(t *testing.T) {
	isolated(t)
	t.Setenv("DANLU_SECRET", "hidden")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	secret := tmp + "/secret"
	if err := os.WriteFile(secret, []byte("hidden"), 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Open(secret, syscall.O_RDONLY, 0) // children would inherit it
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	r, err := Run(t.Context(), `
import os
print(os.environ.get("DANLU_SECRET"), os.path.exists(`+"'"+secret+"'"+`))
for fd in range(3, 64):
    try:
        print(fd, os.read(fd, 10))
    except OSError as e:
        pass
`, "", Limits{Time: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if want := "None False\n"; r.Stdout != want {
		t.Errorf("want %q, got %+v", want, r)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCancel(t *testing.T) {
	isolated(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	began := time.Now()
	if _, err := Run(ctx, "while True: pass", "", Limits{Time: time.Minute}); !errors.Is(err, context.Canceled) {
		t.Errorf("want that it was cancelled, got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// Many at a time, which is how evaluations run programs.
func TestManyRuns(t *testing.T) {
	isolated(t)
	var wait sync.WaitGroup
	for i := range 40 {
		wait.Go(func() {
			r, err := Run(t.Context(), fmt.Sprintf("print(%d * %d)", i, i), "", Limits{Time: time.Minute})
			if want := fmt.Sprintln(i * i); err != nil || r.Stdout != want {
				t.Errorf("run %d: want %q, got %+v, %v", i, want, r, err)
			}
		})
	}
	wait.Wait()
}
