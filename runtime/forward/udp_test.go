package forward

import (
	"errors"
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

// A UDP port can be had at one address instead of all, and the other way round.
func TestAClaimOfOtherAddressesOfUDP(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	u := newUDPInstance(t, "u", "127.0.0.1", 0)
	all := udpPort(port, u.port)
	one := all
	one.HostIP = netip.MustParseAddr("127.0.0.1")
	n.claim("dev/dns", all)
	n.point("dev/dns", u.target())
	for _, p := range []Port{one, all, one} {
		n.claim("dev/dns", p)
		if got := asked(t, udpClient(t, "127.0.0.1", port), "x"); got != "u x" {
			t.Errorf("%+v: %q", p, got)
		}
	}
	// When it cannot be had with others, it is as before, also after the forwarder's death.
	taken := freePort(t)
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", taken))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var refused *TakenError
	if err := n.Claim(t.Context(), "dev/dns", []Port{all, tcpPort(taken, 1)}); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
	if held := n.mirror.get("dev/dns"); len(held.fds) != 1 || len(held.Ports) != 1 || held.Ports[0] != one {
		t.Errorf("the agent holds %+v", held)
	}
	if got := asked(t, udpClient(t, "127.0.0.1", port), "y"); got != "u y" {
		t.Errorf("%q", got)
	}
}
