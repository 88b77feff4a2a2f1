package forward

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crowded is a listening socket that answers nobody before somebody is accepted.
func crowded(t *testing.T) (fd int, at netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at = addrPort(name)
	first, err := dial(at, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.close)
	return fd, at
}

// A connection that took long to make lasts as one that did not: how long it may take to
// be made is no limit of what is written later.
func TestSlowlyConnected(t *testing.T) {
	t.Parallel()
	fd, at := crowded(t)
	took := make(chan error)
	go func() {
		// The kernel asks once more after a second.
		<-time.After(200 * time.Millisecond)
		accepted, _, err := unix.Accept(fd)
		if err == nil {
			err = unix.Close(accepted)
		}
		took <- err
	}()
	const most = 1500 * time.Millisecond
	began := time.Now()
	s, err := dial(at, most, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := <-took; err != nil {
		t.Fatal(err)
	}
	if time.Since(began) < 500*time.Millisecond {
		t.Fatalf("it took %v only", time.Since(began))
	}
	<-time.After(time.Until(began.Add(most + 100*time.Millisecond)))
	if _, err := s.f.Write([]byte("later")); err != nil {
		t.Error(err)
	}
}

func TestNotConnectedInTime(t *testing.T) {
	t.Parallel()
	_, at := crowded(t)
	if s, err := dial(at, 50*time.Millisecond, t.Context()); err == nil {
		s.close()
		t.Error("it is connected to a socket that answers nobody")
	}
}
