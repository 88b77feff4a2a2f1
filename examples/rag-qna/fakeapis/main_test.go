package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

const devAccount = `{"environment": "dev", "openai_key": "topsecret1", "algolia_key": "topsecret2", "indexes": ["i"]}`

func TestServesUntilCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, "127.0.0.1:0", strings.NewReader(devAccount), stdout, io.Discard) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready: ")
	if !ok {
		t.Fatalf("stdout said %q", line)
	}
	resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a key: %s", resp.Status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("after the end: %v", err)
	}
}

func TestAccountsAreCheckedAndNotQuoted(t *testing.T) {
	tests := []struct{ name, stdin, says string }{
		{"none", "", "no account"},
		{"incomplete", `{"environment": "dev", "openai_key": "topsecret1"}`, "account 1 on stdin: environment, openai_key"},
		{"unknown field", devAccount + `{"topsecret3": 1}`, "account 2 on stdin"},
		{"not JSON", `topsecret4`, "account 1 on stdin"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), "127.0.0.1:0", strings.NewReader(test.stdin), &out, &out)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("got %v, want %q", err, test.says)
			}
			if strings.Contains(err.Error(), "topsecret") {
				t.Errorf("the error quotes the input: %v", err)
			}
		})
	}
}

func TestListensOnLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "example.com:80", "nonsense"} {
		if l, err := listenLoopback(t.Context(), address); err == nil {
			l.Close()
			t.Errorf("listens on %s", address)
		}
	}
}
