// Fakeapis serves, on loopback, what the rag-qna example needs of two APIs:
// Algolia's search and OpenAI's chat completions. Package api says how.
//
// It reads the accounts that it knows from stdin, one JSON value each, so that
// no key is ever in an argument or a file:
//
//	{"environment": "dev", "openai_key": "…", "algolia_key": "…", "indexes": ["potus_speeches_dev"]}
//
// Once it listens it prints "ready: http://127.0.0.1:PORT" on stdout. Each
// request is one line on stderr, with fingerprints in place of keys.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/purserd/purser/examples/rag-qna/fakeapis/api"
)

func main() {
	address := flag.String("listen", "127.0.0.1:0", "loopback `address` to listen on; port 0 picks a free one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "fakeapis:", err)
		stop()
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, address string, stdin io.Reader, stdout, stderr io.Writer) error {
	accounts, err := readAccounts(stdin)
	if err != nil {
		return err
	}
	l, err := listenLoopback(ctx, address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           api.New(accounts, slog.New(slog.NewTextHandler(stderr, nil))),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	fmt.Fprintf(stdout, "ready: http://%s\n", l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// readAccounts reads accounts to the end of r. Errors never quote the input: it holds keys.
func readAccounts(r io.Reader) ([]api.Account, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	var accounts []api.Account
	for {
		var a api.Account
		err := d.Decode(&a)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("account %d on stdin is not the JSON that is expected", len(accounts)+1)
		}
		if err := a.Check(); err != nil {
			return nil, fmt.Errorf("account %d on stdin: %w", len(accounts)+1, err)
		}
		accounts = append(accounts, a)
	}
	if len(accounts) == 0 {
		return nil, errors.New("no account on stdin: nobody could use the APIs")
	}
	return accounts, nil
}

// listenLoopback refuses other addresses: what is served is a toy.
func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("-listen: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("-listen: %q is not a loopback address", host)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}
