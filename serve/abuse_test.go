package serve

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"danlu/generate"
)

// Clients that vanish and bodies that are broken leave the server as it was. DANLU_SERVE_ABUSE=1 makes it 1,000 and 10,000.
func TestAbuse(t *testing.T) {
	vanish, broken := 100, 1000
	if os.Getenv("DANLU_SERVE_ABUSE") != "" {
		vanish, broken = 10*vanish, 10*broken
	}
	s, h := tinyServer(t, Options{}, generate.Options{Context: 256, Sequences: 4})
	url := h.URL + "/v1/chat/completions"
	before := ask(t, url, chatBody("one", `,"max_tokens":9,"temperature":0`)).Choices[0].Message.Content
	rng := rand.New(rand.NewPCG(1, 2))
	body := chatBody(strings.Repeat("go on ", 9), `,"stream":true,"ignore_eos":true`)
	for range vanish {
		c, err := net.Dial("tcp", h.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0) // closing resets the connection
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:len(body)-10*rng.IntN(2)])
		c.Close()
	}
	for range broken {
		b := []byte(chatBody("go on", `,"max_tokens":1`))
		for range 1 + rng.IntN(5) {
			b[rng.IntN(len(b))] = byte(rng.IntN(256))
		}
		status, text := post(t, url, string(b))
		if status >= 500 || (status != http.StatusOK) != (parse(t, text).Error != nil) {
			t.Fatalf("%q: status %d: %s", b, status, text)
		}
	}
	for range 500 {
		if running, waiting := s.models[0].sched.load(); running+waiting == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if after := ask(t, url, chatBody("one", `,"max_tokens":9,"temperature":0`)).Choices[0].Message.Content; after != before {
		t.Errorf("before %q, after %q", before, after)
	}
	free(t, s)
}

// The largest requests that are taken end with the time that a request has, and the server goes on.
func TestLargestRequestsEnd(t *testing.T) {
	s, h := tinyServer(t, Options{Timeout: 300 * time.Millisecond}, generate.Options{Context: 2048, Sequences: 2})
	prompts := strings.Repeat(`"go on",`, maxPrompts-1) + `"go on"`
	for body, want := range map[string]int{
		`{"prompt":"go on","n":128,"max_tokens":2147483647,"ignore_eos":true}`:                          http.StatusGatewayTimeout,
		`{"prompt":"go on","n":128,"max_tokens":2000,"ignore_eos":true,"stop":["x"],"logprobs":20}`:     http.StatusGatewayTimeout,
		`{"prompt":[` + prompts + `],"n":128,"max_tokens":2147483647}`:                                  http.StatusTooManyRequests,
		`{"prompt":"go on","echo":true,"logprobs":5,"max_tokens":2147483647,"ignore_eos":true,"n":100}`: http.StatusGatewayTimeout,
	} {
		began := time.Now()
		status, text := post(t, h.URL+"/v1/completions", body)
		if took := time.Since(began); status != want || took > 20*time.Second {
			t.Errorf("%.80s: %d after %v: %.200s", body, status, took, text)
		}
	}
	free(t, s)
}
