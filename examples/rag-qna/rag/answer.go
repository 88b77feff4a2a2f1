package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// answerer finds passages that fit a question and has the model answer from them.
type answerer struct {
	index  string
	search searchClient
	chat   chatClient
}

// answer is what a question comes back with. Error is set instead of the rest
// when it could not be answered.
type answer struct {
	Text   string `json:"text,omitempty"`
	Index  string `json:"index,omitempty"`
	Source string `json:"source,omitempty"`
	Error  string `json:"error,omitempty"`
}

func (a answer) print(w io.Writer) error {
	if a.Error != "" {
		return errors.New(a.Error)
	}
	_, err := fmt.Fprintf(w, "%s\n  -- %s [index %s]\n", a.Text, a.Source, a.Index)
	return err
}

// maxPassages is how many passages the model gets to read.
const maxPassages = 4

// instructions is the system message of every question.
const instructions = "Answer the question from the numbered passages alone, with a quotation, " +
	"and end with the number of the passage in brackets, as in [2]. " +
	"If they hold no answer, say that you do not know."

func (a answerer) answer(ctx context.Context, question string) (answer, error) {
	passages, err := a.search.query(ctx, a.index, question, maxPassages)
	if err != nil {
		return answer{}, err
	}
	if len(passages) == 0 {
		return answer{}, fmt.Errorf("nothing in index %s fits the question", a.index)
	}
	text, err := a.chat.complete(ctx, []chatMessage{
		{Role: "system", Content: instructions},
		{Role: "user", Content: prompt(passages, question)},
	})
	if err != nil {
		return answer{}, err
	}
	text, source := cited(strings.TrimSpace(text), passages)
	return answer{Text: text, Index: a.index, Source: source}, nil
}

// prompt numbers the passages and puts the question below them.
func prompt(passages []passage, question string) string {
	var b strings.Builder
	for i, p := range passages {
		fmt.Fprintf(&b, "[%d] %s: %s\n", i+1, p.source(), p.Text)
	}
	fmt.Fprintf(&b, "\nQuestion: %s", question)
	return b.String()
}

// cited parts the answer from the number it ends with, and names the speech
// behind that. Without a number it names the best passage.
func cited(text string, passages []passage) (string, string) {
	for i, p := range passages {
		if rest, ok := strings.CutSuffix(text, fmt.Sprintf("[%d]", i+1)); ok {
			return strings.TrimSpace(rest), p.source()
		}
	}
	return text, passages[0].source()
}
