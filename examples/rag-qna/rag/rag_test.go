package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserd/purser/examples/rag-qna/fakeapis/api"
)

// environment is one environment's variables, with the APIs at base.
func environment(t *testing.T, base, name string) []string {
	t.Helper()
	return []string{
		"ALGOLIA_API_KEY=search-key-of-" + name,
		"ALGOLIA_APPLICATION_ID=DEMO",
		"ALGOLIA_BASE_URL=" + base,
		"ALGOLIA_INDEX=potus_speeches_" + name,
		"OPENAI_API_KEY=chat-key-of-" + name,
		"OPENAI_BASE_URL=" + base + "/v1",
		"OPENAI_MODEL=extractive",
		"RAG_SOCKET=" + filepath.Join(t.TempDir(), "s"),
	}
}

func serveAPIs(t *testing.T, log io.Writer) string {
	t.Helper()
	var accounts []api.Account
	for _, name := range []string{"dev", "prod"} {
		accounts = append(accounts, api.Account{
			Environment: name, OpenAIKey: "chat-key-of-" + name, AlgoliaKey: "search-key-of-" + name,
			Indexes: []string{"potus_speeches_" + name},
		})
	}
	server := httptest.NewServer(api.New(accounts, slog.New(slog.NewTextHandler(log, nil))))
	t.Cleanup(server.Close)
	return server.URL
}

// rag runs the program and returns what it printed.
func rag(t *testing.T, environ []string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := program{environ: environ, stdout: &out}.run(t.Context(), args)
	return out.String(), err
}

func mustRag(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	out, err := rag(t, environ, args...)
	if err != nil {
		t.Fatalf("rag %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func TestAnswersFromTheCorpus(t *testing.T) {
	env := environment(t, serveAPIs(t, io.Discard), "dev")
	if out := mustRag(t, env, "reindex"); !strings.HasPrefix(out, "loaded 23 passages into index potus_speeches_dev") {
		t.Errorf("reindex printed %q", out)
	}
	tests := []struct{ question, says string }{
		{"What is the only thing we have to fear?", "fear itself"},
		{"What did Kennedy ask of his fellow Americans to do for their country?", "ask what you can do for your country"},
		{"Why do we go to the moon?", "We choose to go to the moon"},
		{"Where did Kennedy choose to go in this decade?", "go to the moon in this decade"},
		{"What should Gorbachev tear down?", "tear down this wall!"},
		{"Which influence must we guard against?", "military-industrial complex"},
		{"What happened on December 7?", "a date which will live in infamy"},
		{"What government shall not perish from the earth?", "of the people, by the people, for the people"},
		{"What did Washington say about alliances?", "permanent alliances"},
		{"What are we to have toward none, and what for all?", "With malice toward none, with charity for all"},
	}
	for _, test := range tests {
		t.Run(test.question, func(t *testing.T) {
			out := mustRag(t, env, "once", test.question)
			if !strings.Contains(out, test.says) || !strings.Contains(out, "[index potus_speeches_dev]") {
				t.Errorf("answered %q", out)
			}
		})
	}
}

func TestEnvironmentsKeepApart(t *testing.T) {
	var log bytes.Buffer
	base := serveAPIs(t, &log)
	dev, prod := environment(t, base, "dev"), environment(t, base, "prod")
	mustRag(t, dev, "reindex")
	mustRag(t, prod, "reindex")
	_, err := rag(t, dev, "once", "-index", "potus_speeches_prod", "What is there to fear?")
	if err == nil || !strings.Contains(err.Error(), "403 Forbidden: Index not allowed with this API key") {
		t.Errorf("prod's index with dev's key: %v", err)
	}
	for _, want := range []string{
		"environment=prod key=" + fingerprint("search-key-of-prod") + " index=potus_speeches_prod operation=batch status=200",
		"environment=dev key=" + fingerprint("search-key-of-dev") + " index=potus_speeches_prod operation=query status=403",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the APIs' log lacks %q:\n%s", want, log.String())
		}
	}
}

func TestServiceAnswers(t *testing.T) {
	env := environment(t, serveAPIs(t, io.Discard), "prod")
	mustRag(t, env, "reindex")
	ctx, stop := context.WithCancel(t.Context())
	var log bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- program{environ: env, stdout: &log}.run(ctx, []string{"serve"}) }()
	out := mustRag(t, env, "ask", "Which", "thing", "have", "we", "to", "fear?")
	if !strings.Contains(out, "fear itself") || !strings.Contains(out, "Franklin D. Roosevelt, First Inaugural Address (1933)") {
		t.Errorf("answered %q", out)
	}
	if _, err := rag(t, env, "ask", "xyzzy?"); err == nil || !strings.Contains(err.Error(), "nothing in index potus_speeches_prod fits") {
		t.Errorf("a question beyond the corpus: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("the service ended with %v", err)
	}
	for _, line := range []string{"answering from index potus_speeches_prod", `question "Which thing have we to fear?" answered`, `question "xyzzy?" failed`} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the service's log lacks %q:\n%s", line, log.String())
		}
	}
}

func TestServiceWithARefusedKey(t *testing.T) {
	env := append(environment(t, serveAPIs(t, io.Discard), "prod"), "OPENAI_API_KEY=chat-key-of-nobody")
	_, err := rag(t, env, "serve")
	if err == nil || err.Error() != "OPENAI_API_KEY is refused: 401 Unauthorized" {
		t.Errorf("it ended with %v", err)
	}
}

func TestServeTakesOverAnOldSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
	l, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestErrors(t *testing.T) {
	base := serveAPIs(t, io.Discard)
	wrongKey := append(environment(t, base, "dev"), "OPENAI_API_KEY=wrong")
	mustRag(t, wrongKey, "reindex")
	tests := []struct {
		name    string
		environ []string
		args    []string
		says    string
	}{
		{"no subcommand", nil, nil, "usage:"},
		{"unknown subcommand", nil, []string{"dance"}, "usage:"},
		{"no question", nil, []string{"ask"}, "usage:"},
		{"no question for once", nil, []string{"once"}, "usage:"},
		{"nothing set", nil, []string{"serve"}, "not set in the environment: ALGOLIA_API_KEY, ALGOLIA_APPLICATION_ID, ALGOLIA_BASE_URL, ALGOLIA_INDEX, OPENAI_API_KEY, OPENAI_BASE_URL"},
		{"reindex needs no model", nil, []string{"reindex"}, "not set in the environment: ALGOLIA_API_KEY, ALGOLIA_APPLICATION_ID, ALGOLIA_BASE_URL, ALGOLIA_INDEX"},
		{"wrong chat key", wrongKey, []string{"once", "Why the moon?"}, "401 Unauthorized: Incorrect API key provided"},
		{"index not loaded", environment(t, base, "prod"), []string{"once", "Why the moon?"}, "404 Not Found: Index potus_speeches_prod does not exist"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := rag(t, test.environ, test.args...)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

func TestErrorThatIsNoJSON(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>", http.StatusBadGateway)
	}))
	defer server.Close()
	if _, err := rag(t, environment(t, server.URL, "dev"), "reindex"); err == nil || !strings.Contains(err.Error(), "502 Bad Gateway") {
		t.Errorf("got %v", err)
	}
}

func TestEnvHidesKeys(t *testing.T) {
	out := mustRag(t, []string{"OPENAI_API_KEY=sk-123", "ENV=dev"}, "env")
	want := "ENV=dev\nOPENAI_API_KEY=(6 bytes, fingerprint " + fingerprint("sk-123") + ")\n"
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestParseSpeech(t *testing.T) {
	const head = "Title: T\nPresident: P\nYear: 1900\n"
	got, err := parseSpeech("s", head+"\nOne\nline.\n\nTwo.\n")
	if err != nil || len(got) != 2 || got[0].Text != "One line." || got[1].ObjectID != "s-2" || got[1].source() != "P, T (1900)" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, text := range []string{"", head, "Title: T\nYear: 1900\n\nText", "Title: T\nPresident: P\nYear: X\n\nText", "no colon\n\nText"} {
		if _, err := parseSpeech("s", text); err == nil {
			t.Errorf("%q is taken for a speech", text)
		}
	}
}

func TestCited(t *testing.T) {
	passages := []passage{{Title: "A", President: "P", Year: 1}, {Title: "B", President: "P", Year: 2}}
	tests := []struct{ text, want, source string }{
		{`"Yes." [2]`, `"Yes."`, "P, B (2)"},
		{`I do not know.`, `I do not know.`, "P, A (1)"},
		{`"Yes." [9]`, `"Yes." [9]`, "P, A (1)"},
	}
	for _, test := range tests {
		if got, source := cited(test.text, passages); got != test.want || source != test.source {
			t.Errorf("%q: got %q, %q", test.text, got, source)
		}
	}
}
