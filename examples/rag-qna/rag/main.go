// Rag answers questions about speeches of US presidents. It looks the question
// up in a search index (Algolia's API), hands what it finds to a language model
// (OpenAI's chat completions API) and prints the model's answer with its source.
//
// It is the function of the rag-qna example, and is made to be run by purser:
// everything it needs, two API keys included, comes from its environment.
//
//	rag serve            answer questions on a unix socket until SIGTERM, unless OpenAI
//	                     refuses the key
//	rag ask QUESTION     ask the service that runs in the same container
//	rag ping             say whether that service answers
//	rag once QUESTION    answer in this process, without the service
//	rag reindex          load the built-in speeches into the search index
//	rag env              print the environment; keys as fingerprints only
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p := program{environ: os.Environ(), stdout: os.Stdout}
	if err := p.run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rag:", err)
		stop()
		os.Exit(1)
	}
}

// program is one invocation: what it reads and where it writes.
type program struct {
	environ []string
	stdout  io.Writer
}

var errUsage = errors.New("usage: rag serve | ask QUESTION | ping | once [-index NAME] QUESTION | reindex | env | spill")

func (p program) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	switch args[0] {
	case "serve":
		return p.serve(ctx)
	case "ask":
		return p.ask(ctx, strings.Join(args[1:], " "))
	case "ping":
		return ping(ctx, socketPath(environMap(p.environ)))
	case "once":
		return p.once(ctx, args[1:])
	case "reindex":
		return p.reindex(ctx)
	case "env":
		return printEnviron(p.stdout, p.environ)
	case "spill":
		return spill(p.stdout, p.environ)
	}
	return errUsage
}

func (p program) serve(ctx context.Context) error {
	c, err := parseConfig(p.environ, "OPENAI_API_KEY", "OPENAI_BASE_URL")
	if err != nil {
		return err
	}
	// So that it is never ready with a key that is of no use.
	if err := c.answerer().chat.checkKey(ctx); err != nil {
		return err
	}
	l, err := listen(ctx, c.socket)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "answering from index %s on %s\n", c.index, c.socket)
	return serve(ctx, l, c.answerer().answer, p.stdout)
}

func (p program) ask(ctx context.Context, question string) error {
	if question == "" {
		return errUsage
	}
	a, err := ask(ctx, socketPath(environMap(p.environ)), question)
	if err != nil {
		return err
	}
	return a.print(p.stdout)
}

// once takes an index to show that a key opens its own environment's alone.
func (p program) once(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("once", flag.ContinueOnError)
	index := flags.String("index", "", "search this index instead of ALGOLIA_INDEX")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errUsage
	}
	c, err := parseConfig(p.environ, "OPENAI_API_KEY", "OPENAI_BASE_URL")
	if err != nil {
		return err
	}
	if *index != "" {
		c.index = *index
	}
	a, err := c.answerer().answer(ctx, strings.Join(flags.Args(), " "))
	if err != nil {
		return err
	}
	return a.print(p.stdout)
}

func (p program) reindex(ctx context.Context) error {
	c, err := parseConfig(p.environ)
	if err != nil {
		return err
	}
	passages, err := builtinPassages()
	if err != nil {
		return err
	}
	if err := c.searchClient().replaceAll(ctx, c.index, passages); err != nil {
		return fmt.Errorf("loading %d passages into index %s: %w", len(passages), c.index, err)
	}
	fmt.Fprintf(p.stdout, "loaded %d passages into index %s\n", len(passages), c.index)
	return nil
}
