package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A server listens, answers with its model, and ends without a word when it is told to.
func TestServe(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model")
	if status, _, stderr := execute(t, tinyRun(t, model, "max_steps=1")...); status != exitOK {
		t.Fatal(stderr)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr)
	l.Close()
	cmd, out := program(t, "serve", model, "--served-model-name", "small", "--port", strconv.Itoa(address.Port), "--context", "64", "--runs", filepath.Dir(model))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	url := "http://" + address.String()
	for tries := 0; ; tries++ {
		if r, err := http.Get(url + "/health"); err == nil {
			r.Body.Close()
			break
		}
		if time.Sleep(20 * time.Millisecond); tries == 1000 {
			t.Fatal("it does not listen")
		}
	}
	r, err := http.Get(url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var list struct{ Data []struct{ ID string } }
	if err := json.NewDecoder(r.Body).Decode(&list); err != nil || len(list.Data) != 1 || list.Data[0].ID != "small" {
		t.Errorf("models: %+v, %v", list, err)
	}
	answer, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"one","max_tokens":4}`))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("status %d", answer.StatusCode)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Skipf("this system has no interrupt for other processes: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
