package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/purserd/purser/runtime/companion"
)

// connection is one to a forwarder.
type connection struct {
	conn    *net.UnixConn
	answers chan response // to the one request that there is
	gone    chan struct{} // closed when the connection has ended
	asking  chan struct{} // has room for one, from a request until its answer is noted
}

func newConnection(conn *net.UnixConn) *connection {
	c := &connection{
		conn: conn, answers: make(chan response), gone: make(chan struct{}), asking: make(chan struct{}, 1),
	}
	go c.read()
	return c
}

// read takes answers until the connection ends.
func (c *connection) read() {
	defer close(c.gone)
	defer c.conn.Close()
	for {
		var r response
		var err error
		if r.fds, err = receive(c.conn, &r); err != nil {
			return
		}
		select {
		case c.answers <- r:
		case <-time.After(time.Second): // nobody has asked
			closeAll(r.fds)
			return
		}
	}
}

// close ends the connection.
func (c *connection) close() {
	c.conn.Close()
	<-c.gone
}

// Close ends the connection, and returns when nothing is noted any more.
func (c *connection) Close() error {
	c.close()
	c.asking <- struct{}{}
	<-c.asking
	return nil
}

func (c *connection) Gone() <-chan struct{} { return c.gone }

func (c *connection) Hello(ctx context.Context, limit time.Duration) (is companion.Executable, err error) {
	// Noted perhaps when nobody waits for it any more.
	said := make(chan companion.Executable, 1)
	if _, err := c.ask(ctx, request{Op: opHello}, limit, func(r response) { said <- r.Executable }); err != nil {
		return is, err
	}
	return <-said, nil
}

// ask has a request answered in time, and the answer noted, which may be after the context
// is over and ask has returned. answered says whether an error is the forwarder's word:
// else, and unless the context is over, the connection is of no use any more.
func (c *connection) ask(ctx context.Context, r request, limit time.Duration, note func(response)) (answered bool, err error) {
	select {
	case c.asking <- struct{}{}:
	case <-c.gone:
		return false, errEnded
	case <-ctx.Done():
		return false, fmt.Errorf("the port forwarder has others to answer: %w", ctx.Err())
	}
	over := make(chan struct{})
	var said bool
	var failed error
	go func() {
		defer func() { <-c.asking }()
		defer close(over)
		said, failed = c.exchange(r, limit, note)
	}()
	select {
	case <-over:
		return said, failed
	case <-ctx.Done():
		return false, fmt.Errorf("the port forwarder has not answered yet: %w", ctx.Err())
	}
}

// errEnded says that there is nobody to answer.
var errEnded = errors.New("the port forwarder has ended")

// exchange is ask, for the only one that asks.
func (c *connection) exchange(r request, limit time.Duration, note func(response)) (answered bool, err error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	if err := send(c.conn, r, r.fds); err != nil {
		return false, errors.Join(err, c.conn.Close())
	}
	select {
	case answer := <-c.answers:
		if err := answer.err(); err != nil {
			closeAll(answer.fds)
			return true, err
		}
		note(answer)
		return true, nil
	case <-c.gone:
		return false, errEnded
	case <-late.C:
		c.close() // an answer that comes yet would be taken for another's
		return false, fmt.Errorf("no answer for %s: %w", limit, companion.ErrHangs)
	}
}
