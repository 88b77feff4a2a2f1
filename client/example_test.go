package client_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

func Example() {
	host, stop := startAgent()
	defer stop()

	c, err := client.New(host)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	res, err := c.Workloads.List(context.Background(), connect.NewRequest(&purserv1.ListRequest{Environment: "dev"}))
	if client.Unreachable(err) {
		log.Fatal(err, "; is purser agent running?")
	}
	if err != nil {
		log.Fatal(err)
	}
	for _, w := range res.Msg.GetWorkloads() {
		fmt.Println(w.GetId(), w.GetState())
	}
	// Output: a/f running
}

// startAgent stands for an agent that runs already.
func startAgent() (host string, stop func()) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	socket := filepath.Join(dir, "purser.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	var cleanup cleanups
	serve(&cleanup, listener)
	return "unix://" + socket, func() {
		cleanup.run()
		os.RemoveAll(dir)
	}
}

// cleanups stands in for a test.
type cleanups []func()

func (c *cleanups) Fatal(args ...any) { log.Fatal(args...) }
func (c *cleanups) Cleanup(f func())  { *c = append(*c, f) }
func (c *cleanups) run() {
	for _, f := range *c {
		f()
	}
}
