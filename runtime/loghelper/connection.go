package loghelper

import (
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/purserd/purser/runtime/peer"
)

// connection is one to a helper.
type connection struct {
	*rpc.Client
	pid     int           // of the helper
	process *os.Process   // the same, also when its PID is another's
	gone    chan struct{} // closed when the connection has ended
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

// connect connects to the helper that runs.
func (c *Client) connect() (*connection, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(c.o.Dir, socketFile), time.Second)
	if err != nil {
		return nil, err
	}
	who, err := peer.Credentials(conn.(*net.UnixConn))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	process, err := os.FindProcess(int(who.Pid))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	gone := make(chan struct{})
	w := watched{Conn: conn, gone: sync.OnceFunc(func() { close(gone) })}
	return &connection{Client: rpc.NewClient(w), pid: int(who.Pid), process: process, gone: gone}, nil
}

// within calls a method that has to answer in a time.
func (c *connection) within(limit time.Duration, method string, args, answer any) error {
	call := c.Go(service+"."+method, args, answer, make(chan *rpc.Call, 1))
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-call.Done:
		return call.Error
	case <-late.C:
		return fmt.Errorf("no answer for %s", limit)
	}
}

// kill ends the helper's process.
func (c *connection) kill() { _ = c.process.Kill() }
