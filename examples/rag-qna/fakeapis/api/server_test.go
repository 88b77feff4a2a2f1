package api

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

var accounts = []Account{
	{Environment: "dev", OpenAIKey: "chat-key-of-dev", AlgoliaKey: "search-key-of-dev", Indexes: []string{"speeches_dev"}},
	{Environment: "prod", OpenAIKey: "chat-key-of-prod", AlgoliaKey: "search-key-of-prod", Indexes: []string{"speeches_prod"}},
}

// call sends one request; key goes into both APIs' headers.
func call(t *testing.T, h http.Handler, method, path, key, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-Algolia-Application-Id", "DEMO")
	r.Header.Set("X-Algolia-API-Key", key)
	r.Header.Set("Authorization", "Bearer "+key)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

const speeches = `{"requests": [
	{"action": "addObject", "body": {"objectID": "moon", "text": "We choose to go to the moon."}},
	{"action": "addObject", "body": {"objectID": "fear", "text": "The only thing we have to fear is fear itself."}},
	{"action": "addObject", "body": {"objectID": "wall", "text": "Tear down this wall!"}}]}`

func loaded(t *testing.T) *Server {
	t.Helper()
	s := New(accounts, quiet())
	if code, body := call(t, s, "POST", "/1/indexes/speeches_dev/batch", "search-key-of-dev", speeches); code != 200 {
		t.Fatalf("batch: %d %s", code, body)
	}
	return s
}

func TestKeys(t *testing.T) {
	const chat = `{"model": "m", "messages": [{"role": "user", "content": "Question: why?"}]}`
	tests := []struct {
		name, path, key, body string
		code                  int
		says                  string
	}{
		{"search with its own key", "/1/indexes/speeches_dev/query", "search-key-of-dev", `{"query": "moon"}`, 200, `"objectID":"moon"`},
		{"search of another environment", "/1/indexes/speeches_dev/query", "search-key-of-prod", `{"query": "moon"}`, 403, "Index not allowed with this API key"},
		{"search with an unknown key", "/1/indexes/speeches_dev/query", "nobody's", `{"query": "moon"}`, 403, "Invalid Application-ID or API key"},
		{"search with a chat key", "/1/indexes/speeches_dev/query", "chat-key-of-dev", `{"query": "moon"}`, 403, "Invalid Application-ID or API key"},
		{"search without a key", "/1/indexes/speeches_dev/query", "", `{"query": "moon"}`, 403, "Invalid Application-ID or API key"},
		{"batch of another environment", "/1/indexes/speeches_dev/batch", "search-key-of-prod", `{"requests": []}`, 403, "not allowed"},
		{"index that is not there", "/1/indexes/speeches_prod/query", "search-key-of-prod", `{"query": "moon"}`, 404, "Index speeches_prod does not exist"},
		{"chat", "/v1/chat/completions", "chat-key-of-dev", chat, 200, `"finish_reason":"stop"`},
		{"chat with an unknown key", "/v1/chat/completions", "nobody's", chat, 401, `"code":"invalid_api_key"`},
		{"chat with a search key", "/v1/chat/completions", "search-key-of-dev", chat, 401, `"code":"invalid_api_key"`},
	}
	s := loaded(t)
	for key, want := range map[string]int{"chat-key-of-dev": 200, "search-key-of-dev": 401, "nobody's": 401} {
		if code, body := call(t, s, "GET", "/v1/models", key, ""); code != want {
			t.Errorf("models with %s: %d %s", key, code, body)
		}
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, body := call(t, s, "POST", test.path, test.key, test.body)
			if code != test.code || !strings.Contains(body, test.says) {
				t.Errorf("got %d %s, want %d and %q", code, body, test.code, test.says)
			}
		})
	}
}

func TestApplicationIDIsRequired(t *testing.T) {
	r := httptest.NewRequest("POST", "/1/indexes/speeches_dev/query", strings.NewReader(`{}`))
	r.Header.Set("X-Algolia-API-Key", "search-key-of-dev")
	w := httptest.NewRecorder()
	loaded(t).ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("got %d, want 403", w.Code)
	}
}

func TestBadRequests(t *testing.T) {
	tests := []struct{ name, path, body, says string }{
		{"not JSON", "/1/indexes/speeches_dev/query", `{`, "unexpected EOF"},
		{"no hits wanted", "/1/indexes/speeches_dev/query", `{"hitsPerPage": 0}`, "hitsPerPage must be between"},
		{"unknown action", "/1/indexes/speeches_dev/batch", `{"requests": [{"action": "explode"}]}`, `requests[0]: unknown action \"explode\"`},
		{"no objectID", "/1/indexes/speeches_dev/batch", `{"requests": [{"action": "clear"}, {"action": "addObject", "body": {}}]}`, "requests[1]: objectID is missing"},
	}
	s := loaded(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, body := call(t, s, "POST", test.path, "search-key-of-dev", test.body)
			if code != 400 || !strings.Contains(body, test.says) {
				t.Errorf("got %d %s, want 400 and %q", code, body, test.says)
			}
		})
	}
	if code, body := call(t, s, "POST", "/1/indexes/speeches_dev/query", "search-key-of-dev", `{"query": "moon"}`); code != 200 || !strings.Contains(body, "moon") {
		t.Errorf("a refused batch changed the index: %d %s", code, body)
	}
}

func TestBadChats(t *testing.T) {
	tests := []struct{ name, body, says string }{
		{"not JSON", `{`, "could not parse"},
		{"no model", `{"messages": [{}]}`, "model parameter"},
		{"no messages", `{"model": "m"}`, "messages"},
		{"stream", `{"model": "m", "messages": [{}], "stream": true}`, "stream is not supported"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, body := call(t, New(accounts, quiet()), "POST", "/v1/chat/completions", "chat-key-of-dev", test.body)
			if code != 400 || !strings.Contains(body, test.says) {
				t.Errorf("got %d %s, want 400 and %q", code, body, test.says)
			}
		})
	}
}

func TestTask(t *testing.T) {
	s := loaded(t)
	for path, want := range map[string]int{"1": 200, "2": 404, "0": 404, "x": 404} {
		if code, body := call(t, s, "GET", "/1/indexes/speeches_dev/task/"+path, "search-key-of-dev", ""); code != want {
			t.Errorf("task %s: got %d %s, want %d", path, code, body, want)
		}
	}
}

func TestRanking(t *testing.T) {
	tests := []struct {
		query string
		want  []string
	}{
		{"the moon", []string{"moon"}},
		{"MOON?", []string{"moon"}},
		{"walls and fears", []string{"fear", "wall"}},
		{"nothing of it", []string{}},
		{"", []string{}},
	}
	s := loaded(t)
	for _, test := range tests {
		t.Run(test.query, func(t *testing.T) {
			query, _ := json.Marshal(map[string]string{"query": test.query})
			_, body := call(t, s, "POST", "/1/indexes/speeches_dev/query", "search-key-of-dev", string(query))
			var got struct{ Hits []struct{ ObjectID string } }
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			ids := []string{}
			for _, hit := range got.Hits {
				ids = append(ids, hit.ObjectID)
			}
			if strings.Join(ids, " ") != strings.Join(test.want, " ") {
				t.Errorf("got %v, want %v", ids, test.want)
			}
		})
	}
}

func TestObjectsAreReplacedAndCleared(t *testing.T) {
	s := loaded(t)
	const path, key = "/1/indexes/speeches_dev/", "search-key-of-dev"
	call(t, s, "POST", path+"batch", key, `{"requests": [{"action": "updateObject", "body": {"objectID": "moon", "text": "Mars"}}]}`)
	if _, body := call(t, s, "POST", path+"query", key, `{"query": "moon"}`); !strings.Contains(body, `"nbHits":0`) {
		t.Errorf("the old text is still found: %s", body)
	}
	if _, body := call(t, s, "POST", path+"query", key, `{"query": "mars"}`); !strings.Contains(body, `"nbHits":1`) {
		t.Errorf("the new text is not found: %s", body)
	}
	call(t, s, "POST", path+"batch", key, `{"requests": [{"action": "clear"}]}`)
	if code, body := call(t, s, "POST", path+"query", key, `{"query": "fear"}`); code != 200 || !strings.Contains(body, `"nbHits":0`) {
		t.Errorf("a cleared index: %d %s", code, body)
	}
}

func TestQuote(t *testing.T) {
	const prompt = `[1] Franklin D. Roosevelt, Address (1933): This Nation will endure. The only thing we have to fear is fear itself.
[2] Ronald Reagan, Remarks (1987): Come here to this gate! Mr. Gorbachev, open this gate! Mr. Gorbachev, tear down this wall!

Question: `
	tests := []struct{ question, want string }{
		{"What is to be feared?", `"The only thing we have to fear is fear itself." [1]`},
		{"What should Gorbachev do with the wall?", `"Mr. Gorbachev, tear down this wall!" [2]`},
		{"How tall is the Eiffel tower?", ignorance},
	}
	for _, test := range tests {
		for range 3 {
			if got := quote(prompt + test.question); got != test.want {
				t.Errorf("%s\ngot  %s\nwant %s", test.question, got, test.want)
			}
		}
	}
	if got := quote("no passages"); got != ignorance {
		t.Errorf("without a question: %s", got)
	}
}

func TestLogHoldsFingerprintsOnly(t *testing.T) {
	var log bytes.Buffer
	s := New(accounts, slog.New(slog.NewTextHandler(&log, nil)))
	call(t, s, "POST", "/1/indexes/speeches_dev/query", "search-key-of-prod", `{}`)
	call(t, s, "POST", "/v1/chat/completions", "chat-key-of-dev", `{}`)
	call(t, s, "POST", "/v1/chat/completions", "some-other-key", `{}`)
	for _, key := range []string{"search-key-of-prod", "chat-key-of-dev", "some-other-key"} {
		if strings.Contains(log.String(), key) {
			t.Errorf("the log holds the key %s", key)
		}
		if !strings.Contains(log.String(), "key="+Fingerprint(key)) {
			t.Errorf("the log lacks the fingerprint of %s:\n%s", key, log.String())
		}
	}
}
