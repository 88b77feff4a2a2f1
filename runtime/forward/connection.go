package forward

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/purserd/purser/runtime/peer"
)

// connection is one to a forwarder.
type connection struct {
	conn    *net.UnixConn
	pid     int           // of the forwarder
	answers chan response // to the one request that there is
	gone    chan struct{} // closed when the connection has ended
	late    atomic.Bool   // an answer has not come in time

	mu sync.Mutex // held from a request to the end of its answer
}

// connect connects to the forwarder that runs.
func (c *Client) connect() (*connection, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(c.c.Dir, socketFile), time.Second)
	if err != nil {
		return nil, err
	}
	u := conn.(*net.UnixConn)
	who, err := peer.Credentials(u)
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	there := &connection{conn: u, pid: int(who.Pid), answers: make(chan response), gone: make(chan struct{})}
	go there.read()
	return there, nil
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

// ask has a request answered in time, and the answer noted. answered says whether an
// error is the forwarder's word: else the connection is of no use any more.
func (c *connection) ask(r request, limit time.Duration, note func(response)) (answered bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
		return false, errors.New("the port forwarder has ended")
	case <-late.C:
		c.late.Store(true)
		c.close() // an answer that comes yet would be taken for another's
		return false, fmt.Errorf("the port forwarder has not answered for %s", limit)
	}
}

// hangs tells whether the forwarder is there and does not answer.
func (c *connection) hangs() bool { return c.late.Load() }

// kill ends the forwarder's process, if it still is the one that it was.
func (c *connection) kill() {
	process, err := os.FindProcess(c.pid)
	if err != nil {
		return
	}
	defer process.Release()
	_ = process.Kill()
}
