package forward

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseSocket(t *testing.T) {
	for line, want := range map[string]socketLine{
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0 0 10 0": {
			netip.MustParseAddrPort("127.0.0.1:8080"), true, "12345"},
		"   1: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 99 2 0 0": {
			netip.MustParseAddrPort("[::1]:53"), true, "99"},
		"   2: 0200000A:C350 0300000A:0050 01 00000000:00000000 00:00000000 00000000     0        0 7 1 0 20 4 30 10 -1": {
			netip.MustParseAddrPort("10.0.0.2:50000"), false, "7"},
	} {
		if got, ok := parseSocket(line); !ok || got != want {
			t.Errorf("%s: %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{
		"", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
		"   0: 0100007F:1F90 00000000:0000 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0", // TIME_WAIT
		"   0: XX:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1",
	} {
		if got, ok := parseSocket(line); ok {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

func TestConflicts(t *testing.T) {
	at := func(ip string, port uint16) binding {
		b := binding{protocol: TCP, port: port}
		if ip != "" {
			b.ip = netip.MustParseAddr(ip)
		}
		return b
	}
	for _, c := range []struct {
		a, b binding
		want bool
	}{
		{at("", 80), at("", 80), true},
		{at("", 80), at("", 81), false},
		{at("", 80), at("10.0.0.1", 80), true},
		{at("", 80), at("fd00::1", 80), true},
		{at("10.0.0.1", 80), at("10.0.0.2", 80), false},
		{at("0.0.0.0", 80), at("10.0.0.2", 80), true},
		{at("0.0.0.0", 80), at("fd00::1", 80), false},
		{at("0.0.0.0", 80), at("::", 80), false},
		{at("::", 80), at("fd00::1", 80), true},
		{at("", 80), binding{protocol: UDP, port: 80}, false},
	} {
		if c.a.conflicts(c.b) != c.want || c.b.conflicts(c.a) != c.want {
			t.Errorf("%s and %s: want %v", c.a, c.b, c.want)
		}
	}
}

// Others are answered while it is looked for who has a port.
func TestLookingForAHolder(t *testing.T) {
	_, f, _ := limited(t, limits{pending: 1, hold: time.Hour}, tcpPort(freePort(t), 1))
	f.bind = func(*owner, Port) (*socket, error) { return nil, unix.EADDRINUSE }
	looking, found := make(chan struct{}), make(chan struct{})
	f.findHolder = func(e *TakenError) {
		close(looking)
		<-found
		e.PID = 7
	}
	claimed := make(chan response)
	go func() { claimed <- f.answer(request{Op: opClaim, Owner: "dev/other", Ports: []Port{tcpPort(1, 1)}}) }()
	<-looking
	listed := make(chan response, 1)
	go func() { listed <- f.answer(request{Op: opList}) }()
	select {
	case r := <-listed:
		if len(r.Owners) != 1 {
			t.Errorf("%+v", r.Owners)
		}
	case <-time.After(5 * time.Second):
		t.Error("another one is not answered")
	}
	close(found)
	if r := <-claimed; r.Taken == nil || r.Taken.PID != 7 {
		t.Errorf("%+v", r)
	}
}
