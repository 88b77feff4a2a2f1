package forward

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOnlyWhatLeavesTheMachineIsPaced(t *testing.T) {
	inside := nodeControl()
	if inside == paced {
		inside = unpaced
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := numberOf(l.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	tuneListener(fd)
	for from, want := range map[string]string{"127.0.0.1": inside, "::1": inside, "192.0.2.1": nodeControl()} {
		server, err := dial(netip.MustParseAddrPort(l.Addr().String()), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer server.close()
		if got := control(t, server.fd); got != unpaced {
			t.Errorf("%s to a target", got)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client, err := numberOf(conn.(*net.TCPConn))
		if err != nil {
			t.Fatal(err)
		}
		tuneClient(client, netip.MustParseAddr(from))
		if got := control(t, client); got != want {
			t.Errorf("%s with a client at %s, not %s", got, from, want)
		}
	}
}

func TestAConnectionToATargetHasABufferThatFitsACache(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server, err := dial(netip.MustParseAddrPort(l.Addr().String()), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer server.close()
	if got, err := unix.GetsockoptInt(server.fd, unix.SOL_SOCKET, unix.SO_SNDBUF); err != nil || got != 2*mayHave(t, insideBuffer) {
		t.Errorf("%d bytes, %v", got, err)
	}
}

// mayHave is what this process gets of a buffer's size: root all of it, and others what
// the node leaves them.
func mayHave(t *testing.T, size int) int {
	t.Helper()
	if os.Geteuid() == 0 {
		return size
	}
	text, err := os.ReadFile("/proc/sys/net/core/wmem_max")
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return min(size, most)
}

func control(t *testing.T, fd int) string {
	t.Helper()
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
