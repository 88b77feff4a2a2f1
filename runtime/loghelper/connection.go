package loghelper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"sync"
	"time"

	"github.com/purserd/purser/runtime/companion"
)

// connection is one to a helper.
type connection struct {
	*rpc.Client
	gone chan struct{} // closed when the connection has ended
}

// watched is a connection that says when it has ended, to who does nothing with it.
type watched struct {
	net.Conn
	gone func()
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.gone()
	}
	return n, err
}

func newConnection(conn *net.UnixConn) *connection {
	gone := make(chan struct{})
	w := watched{Conn: conn, gone: sync.OnceFunc(func() { close(gone) })}
	return &connection{Client: rpc.NewClient(w), gone: gone}
}

func (c *connection) Gone() <-chan struct{} { return c.gone }

func (c *connection) Hello(ctx context.Context, limit time.Duration) (companion.Executable, error) {
	var is companion.Executable
	err := c.within(ctx, limit, "Hello", struct{}{}, &is)
	return is, err
}

// within calls a method that has to answer in a time.
func (c *connection) within(ctx context.Context, limit time.Duration, method string, args, answer any) error {
	late := fmt.Errorf("no answer for %s: %w", limit, companion.ErrHangs)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	_, err := c.call(ctx, method, args, answer)
	return err
}

// call calls a method. answered says whether an error is the helper's word.
func (c *connection) call(ctx context.Context, method string, args, answer any) (answered bool, err error) {
	call := c.Go(service+"."+method, args, answer, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		return isAnswer(call.Error), call.Error
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

func isAnswer(err error) bool {
	var answered rpc.ServerError
	return errors.As(err, &answered)
}
