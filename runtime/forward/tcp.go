package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
)

// connectTimeout is how long a target may take to answer.
const connectTimeout = time.Second

// Pauses between two tries to connect.
const (
	firstPause = 5 * time.Millisecond
	mostPause  = 100 * time.Millisecond
)

// goneCheck is how often it is looked whether a client waits that is not there any more.
const goneCheck = time.Second

// What a connection that is not forwarded ends with.
var (
	errHeld      = errors.New("no target took the connection in time")
	errAbandoned = errors.New("the client has gone")
	errReleased  = errors.New("the port was released")
	errPaused    = errors.New("the port is paused")
)

// accepted is the client's end of a connection.
type accepted struct {
	stream
	from netip.AddrPort
}

// forward serves a connection until it has ended. It counts in the group until it has a
// target, or is kept.
func (s *socket) forward(client *accepted, during *taking) {
	s.owner.f.serving.Add(1)
	defer s.owner.f.served()
	c := s.owner.f.counters
	server, err := s.connect(client, during.ctx)
	<-s.owner.pending
	if errors.Is(err, errPaused) {
		s.keep(client)
		during.group.Done()
		return
	}
	during.group.Done()
	c.result(err).Add(1)
	if err != nil {
		client.reset()
		return
	}
	c.active.Add(1)
	defer c.active.Add(^uint64(0))
	relay(&client.stream, server, c)
}

// connect connects to a target, and to the next one, until one takes the connection.
func (s *socket) connect(client *accepted, taking context.Context) (*stream, error) {
	held := &s.owner.f.counters.held
	held.Add(1)
	defer held.Add(^uint64(0))
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		targets := s.owner.targets.Load()
		t, to, port := targets.pick(*s.port.Load(), client.from.Addr())
		if t != nil {
			if server := t.connect(taking, to, port, client); server != nil {
				return server, nil
			}
		} else {
			pause = goneCheck
		}
		if err := s.wait(taking, targets, &client.stream, min(pause, s.owner.f.limits.hold-time.Since(began))); err != nil {
			return nil, err
		}
		if t == nil {
			pause = firstPause
		}
	}
}

// wait waits for other targets, for a time at most.
func (s *socket) wait(taking context.Context, before *targetSet, client *stream, most time.Duration) error {
	if most <= 0 {
		return errHeld
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-before.replaced:
		return nil
	case <-taking.Done():
		return errPaused
	case <-timer.C:
	}
	if client.dead() {
		return errAbandoned
	}
	return nil
}

// connect connects to the target; nil when that fails, when the context is over, or when it
// is no target any more.
func (t *target) connect(taking context.Context, to netip.AddrPort, p Port, client *accepted) *stream {
	if !t.enter() {
		return nil
	}
	defer t.leave()
	server, err := dial(to, connectTimeout, t.ctx, taking)
	if err != nil {
		return nil
	}
	if err := introduce(server, client, p.ProxyProtocol); err != nil {
		server.reset()
		return nil
	}
	return server
}

// introduce tells the server of the client, where that is asked for. What it writes has
// room in the socket's buffer.
func introduce(server *stream, client *accepted, version string) error {
	if version == "" {
		return nil
	}
	number := byte(1)
	if version == ProxyV2 {
		number = 2
	}
	at, err := client.local()
	if err != nil {
		return err
	}
	header, err := proxyproto.HeaderProxyFromAddrs(number, net.TCPAddrFromAddrPort(client.from), net.TCPAddrFromAddrPort(at)).Format()
	if err != nil {
		return err
	}
	return server.do(func(fd int) error {
		_, err := unix.Write(fd, header)
		return err
	})
}
