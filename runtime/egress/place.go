package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// look finds what is on the calling thread's network.
func look() (place, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return place{}, fmt.Errorf("listing the network's interfaces: %w", err)
	}
	var p place
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			p.loopback = i.Index
			continue
		}
		p.interfaces = append(p.interfaces, i.Name)
		addresses, err := i.Addrs()
		if err != nil {
			return place{}, fmt.Errorf("listing the addresses of %s: %w", i.Name, err)
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				p.neighbours = append(p.neighbours, prefix)
			}
		}
	}
	if len(p.interfaces) == 0 {
		return place{}, errors.New("the network has no interface but loopback: there is nothing to limit")
	}
	return p, nil
}

const clientPortsFile = "/proc/sys/net/ipv4/ip_local_port_range"

// lowestClientPort is that of the calling thread's network.
func lowestClientPort() (uint16, error) {
	text, err := os.ReadFile(clientPortsFile)
	if err != nil {
		return 0, fmt.Errorf("reading which ports clients get: %w", err)
	}
	lowest, _, _ := strings.Cut(string(text), "\t")
	n, err := strconv.ParseUint(lowest, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", clientPortsFile, err)
	}
	return uint16(n), nil
}
