package api

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chatRequest struct {
	Model    string        `json:"model"`
	Messages []chatMessage `json:"messages"`
	Stream   bool          `json:"stream"`
}

type chatChoice struct {
	Index        int         `json:"index"`
	Message      chatMessage `json:"message"`
	FinishReason string      `json:"finish_reason"`
}

// chatUsage counts words where the real API counts tokens.
type chatUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

type chatResponse struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   chatUsage    `json:"usage"`
}

// chatError is how OpenAI says no.
type chatError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) { s.openAI(w, r, "chat", chatAnswer) }

// models lists those that there are, which is what a key is checked by: it costs nothing.
func (s *Server) models(w http.ResponseWriter, r *http.Request) {
	s.openAI(w, r, "models", func(http.ResponseWriter, *http.Request) (int, any) {
		return http.StatusOK, map[string]any{"object": "list", "data": []any{}}
	})
}

// openAI checks the key before the handler sees the request, and logs.
func (s *Server) openAI(w http.ResponseWriter, r *http.Request, name string, answer func(http.ResponseWriter, *http.Request) (int, any)) {
	key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	account, ok := find(s.accounts, byOpenAIKey, key)
	if !ok {
		account.Environment = "unknown"
		answer = refuseKey
	}
	status, body := answer(w, r)
	s.log.Info("request", "api", name, "environment", account.Environment, "key", Fingerprint(key), "status", status)
	respond(w, status, body)
}

func refuseKey(http.ResponseWriter, *http.Request) (int, any) {
	code := "invalid_api_key"
	return http.StatusUnauthorized, chatFailure("Incorrect API key provided", &code)
}

func chatAnswer(w http.ResponseWriter, r *http.Request) (int, any) {
	var req chatRequest
	if err := decode(w, r, &req); err != nil {
		return http.StatusBadRequest, chatFailure("We could not parse the JSON body of your request: "+err.Error(), nil)
	}
	if problem := req.problem(); problem != "" {
		return http.StatusBadRequest, chatFailure(problem, nil)
	}
	return http.StatusOK, req.complete(time.Now())
}

func chatFailure(message string, code *string) any {
	return map[string]chatError{"error": {Message: message, Type: "invalid_request_error", Code: code}}
}

func (r chatRequest) problem() string {
	switch {
	case r.Model == "":
		return "you must provide a model parameter"
	case len(r.Messages) == 0:
		return "Missing required parameter: 'messages'."
	case r.Stream:
		return "stream is not supported here"
	}
	return ""
}

func (r chatRequest) complete(now time.Time) chatResponse {
	prompt, question := 0, ""
	for _, m := range r.Messages {
		prompt += len(strings.Fields(m.Content))
		if m.Role == "user" {
			question = m.Content
		}
	}
	text := quote(question)
	words := len(strings.Fields(text))
	return chatResponse{
		ID: "chatcmpl-" + Fingerprint(question), Object: "chat.completion", Created: now.Unix(), Model: r.Model,
		Choices: []chatChoice{{Message: chatMessage{Role: "assistant", Content: text}, FinishReason: "stop"}},
		Usage:   chatUsage{PromptTokens: prompt, CompletionTokens: words, TotalTokens: prompt + words},
	}
}

// ignorance is the answer to a question that no passage fits.
const ignorance = "I do not know."

// passage is a numbered line: "[2] Speaker, Speech (1863): Text".
var passage = regexp.MustCompile(`(?m)^\[(\d+)\] (.*?): (.+)$`)

// quote returns the sentence of the prompt's passages that holds most of the
// question, in quotation marks, with the number of its passage.
func quote(prompt string) string {
	i := strings.LastIndex(prompt, "Question:")
	if i < 0 {
		return ignorance
	}
	question := prompt[i+len("Question:"):]
	var sentences index
	for _, m := range passage.FindAllStringSubmatch(prompt[:i], -1) {
		number, source, text := m[1], m[2], m[3]
		for _, sentence := range split(text) {
			sentences = append(sentences, quotable(number, source, sentence, len(sentences)))
		}
	}
	if ranked := sentences.rank(question); len(ranked) > 0 {
		return string(ranked[0].raw)
	}
	return ignorance
}

// quotable is a sentence as an object of an index. The source counts, too: a
// question that names the speaker is better answered by him.
func quotable(number, source, sentence string, position int) object {
	o := object{
		id:    fmt.Sprintf("%06d", position), // equals keep their order
		raw:   []byte(`"` + sentence + `" [` + number + `]`),
		terms: map[string]int{},
	}
	for _, term := range terms(source + " " + sentence) {
		o.terms[term]++
		o.size++
	}
	return o
}

// sentenceEnd is the last word of a sentence, its stop, and the space behind it.
var sentenceEnd = regexp.MustCompile(`\S+[.!?] `)

// split cuts text into sentences; "Mr." and initials end none.
func split(text string) []string {
	marked := sentenceEnd.ReplaceAllStringFunc(text, func(end string) string {
		if end == "Mr. " || len(end) == len("D. ") {
			return end
		}
		return strings.TrimSuffix(end, " ") + "\n"
	})
	return strings.Split(marked, "\n")
}
