package companion

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/purserd/purser/runtime/peer"
)

// Link is a connection to a companion.
type Link interface {
	// Hello asks what it runs. The error wraps [ErrHangs] when no answer has come for so
	// long.
	Hello(ctx context.Context, limit time.Duration) (Executable, error)
	// Gone is closed when the connection has ended.
	Gone() <-chan struct{}
	// Close ends it.
	Close() error
}

// ErrHangs says that a companion is there and does not answer.
var ErrHangs = errors.New("it hangs")

// ErrStays says that a companion of another version has to be gone on with.
var ErrStays = errors.New("it has to stay")

// process is a companion that is connected to.
type process[L Link] struct {
	link   L
	pid    int
	handle *os.Process // the same, also when its PID is another's
}

// connect connects to the companion that runs.
func (k *Keeper[L]) connect(ctx context.Context) (*process[L], error) {
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.DialContext(ctx, "unix", k.socket())
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	who, err := peer.Credentials(conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	handle, err := os.FindProcess(int(who.Pid))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &process[L]{link: k.c.Link(conn), pid: int(who.Pid), handle: handle}, nil
}

func (p *process[L]) kill() { _ = p.handle.Kill() }

func (p *process[L]) close() {
	_ = p.link.Close()
	_ = p.handle.Release()
}
