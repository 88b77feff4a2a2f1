package forward

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// newUDPInstance answers each datagram with its name and what it got.
func newUDPInstance(t *testing.T, name, addr string, port uint16) *instance {
	t.Helper()
	in := &instance{t: t, name: name, addr: netip.MustParseAddr(addr)}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(in.addr, port)))
	if err != nil {
		t.Fatal(err)
	}
	in.port, in.stopUDP = uint16(conn.LocalAddr().(*net.UDPAddr).Port), func() { conn.Close() }
	in.serving.Go(func() {
		buf := make([]byte, largest)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(append([]byte(name+" "), buf[:n]...), from)
		}
	})
	t.Cleanup(in.crash)
	return in
}

// udpClient is connected: answers from another address than it sends to are none.
func udpClient(t *testing.T, host string, port uint16) net.Conn {
	t.Helper()
	conn, err := net.Dial("udp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// asked sends a datagram until it is answered, as clients of UDP do.
func asked(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	answer := make([]byte, largest)
	for range 50 {
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := conn.Read(answer); err == nil {
			return string(answer[:n])
		}
	}
	t.Fatalf("nobody answers %q", text)
	return ""
}

func TestDatagramsGoToTheTargetAndBack(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newUDPInstance(t, "a", "127.0.0.1", 0)
	b := newUDPInstance(t, "b", "127.0.0.2", a.port)
	n.claim("dev/dns", udpPort(port, a.port))
	n.point("dev/dns", a.target())
	// Of an address that the kernel would not choose by itself, too.
	for _, host := range []string{"127.0.0.1", "127.0.0.9", "::1"} {
		client := udpClient(t, host, port)
		for _, text := range []string{"hello", ""} {
			if got := asked(t, client, text); got != "a "+text {
				t.Errorf("%s: %q", host, got)
			}
		}
	}
	client := udpClient(t, "127.0.0.1", port)
	asked(t, client, "before")
	if c := n.Counters(); c.Sessions != 4 || c.BytesIn == 0 || c.BytesOut == 0 {
		t.Errorf("%+v", c)
	}
	n.point("dev/dns", b.target())
	if got := asked(t, client, "after"); got != "b after" {
		t.Errorf("%q", got)
	}
	n.point("dev/dns")
	dropped := n.Counters().DatagramsDropped
	if _, err := client.Write([]byte("to nobody")); err != nil {
		t.Fatal(err)
	}
	await(t, "dropped", func() bool { return n.Counters().DatagramsDropped == dropped+1 })
	if c := n.Counters(); c.Sessions != 0 {
		t.Errorf("%d sessions with nobody", c.Sessions)
	}
}

func TestAnInstanceThatComesBackIsAnsweredFromAgain(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newUDPInstance(t, "a", "127.0.0.1", 0)
	n.claim("dev/dns", udpPort(port, a.port))
	n.point("dev/dns", a.target())
	client := udpClient(t, "127.0.0.1", port)
	asked(t, client, "x")
	a.crash()
	dropped := n.Counters().DatagramsDropped
	if _, err := client.Write([]byte("to nobody")); err != nil {
		t.Fatal(err)
	}
	await(t, "dropped", func() bool { return n.Counters().DatagramsDropped > dropped })
	newUDPInstance(t, "again", "127.0.0.1", a.port)
	if got := asked(t, client, "x"); got != "again x" {
		t.Errorf("%q", got)
	}
}
