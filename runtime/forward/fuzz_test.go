package forward

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inProcess is a forwarder without a process of its own.
func inProcess(t testing.TB, with func(*forwarder)) *forwarder {
	t.Helper()
	f, err := newForwarder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	with(f)
	if err := f.start(); err != nil {
		t.Fatal(err)
	}
	return f
}

// close ends it, with all that it has.
func (f *forwarder) close(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	for name := range f.owners {
		f.release(name)
	}
	f.mu.Unlock()
	f.agents.Close()
	over := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.serving.Load() == 0 && f.agents.Agents() == 0
	}
	for range 1000 { // mostly in no time
		if over() {
			break
		}
		runtime.Gosched()
	}
	await(t, "over", over)
	f.lock.Close()
	f.counters.Close()
}

// encoded is a message without its descriptors.
func encoded(t testing.TB, message any) []byte {
	t.Helper()
	body, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// seeds are what an agent says.
func seeds(t testing.TB) (all [][]byte) {
	ports := []Port{{Protocol: TCP, Host: 1, Container: 2, ProxyProtocol: ProxyV2}, {Protocol: UDP, Host: 1, Container: 2, HostIP: netip.MustParseAddr("::1")}}
	targets := []Target{{Instance: "a", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Ports: ports}}
	var talk []byte
	for _, op := range []string{opHello, opClaim, opPoint, opList, opSockets, opRestore, opRelease, opLeave, opTaken, "", opTakeOver} {
		message := encoded(t, request{Op: op, Owner: "e/f", Ports: ports, Targets: targets})
		talk = append(talk, message...)
		all = append(all, message)
	}
	taken := append(encoded(t, request{Op: opClaim, Owner: "e/f", Ports: ports}), encoded(t, request{Op: opTakeOver})...)
	return append(all, talk, append(taken, encoded(t, request{Op: opTaken})...), encoded(t, request{Op: opClaim, Owner: "e", Ports: append(ports, ports...)}))
}

// Whatever comes by its socket, a forwarder answers or hangs up, and keeps no descriptor
// that it was sent for nothing.
func FuzzRequests(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed, byte(0))
		f.Add(seed, byte(2))
	}
	f.Fuzz(func(t *testing.T, said []byte, descriptors byte) {
		before := openDescriptors(t)
		fw := inProcess(t, func(f *forwarder) { f.bind = bindAny })
		talk(t, fw, said, int(descriptors%5))
		fw.close(t)
		if after := openDescriptors(t); after > before {
			t.Errorf("%d descriptors were open, and %d are now", before, after)
		}
	})
}

// bindAny has none of the ports that are asked for: they are others'.
func bindAny(o *owner, p Port) (*socket, error) {
	if p.Protocol == TCP {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		defer l.Close()
		fd, err := numberOf(l)
		if err != nil {
			return nil, err
		}
		return o.listening(p, fd)
	}
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	return o.newUDP(p, u)
}

// talk says something to the forwarder, with some sockets, and hears all of its answers.
func talk(t *testing.T, f *forwarder, said []byte, descriptors int) {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(f.dir, socketFile)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fds := someSockets(t, descriptors)
	defer closeAll(fds)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for {
			var r response
			fds, err := receive(conn, &r)
			closeAll(fds)
			if err != nil {
				return
			}
		}
	}()
	if len(said) > 0 {
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		n, _, err := conn.WriteMsgUnix(said, rights, nil)
		if err == nil {
			_, _ = conn.Write(said[n:])
		}
	}
	_ = conn.CloseWrite()
	<-heard
}

// someSockets are those that can be ports, and others.
func someSockets(t *testing.T, n int) []int {
	t.Helper()
	var fds []int
	for i := range n {
		kind := []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_STREAM}[i%3]
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := unix.Listen(fd, 1); err != nil {
				t.Fatal(err)
			}
		}
		fds = append(fds, fd)
	}
	return fds
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
