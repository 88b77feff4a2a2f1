package cni

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// resolvedFile has the name servers behind systemd-resolved's own, which listens on a
// loopback address.
const resolvedFile = "/run/systemd/resolve/resolv.conf"

// resolv is what a resolv.conf says.
type resolv struct {
	servers []netip.Addr
	// rest are its other lines: search, options.
	rest []string
}

func parseResolv(data []byte) resolv {
	var r resolv
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.ContainsAny(line[:1], "#;"):
		case fields[0] != "nameserver":
			r.rest = append(r.rest, line)
		case len(fields) > 1:
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				r.servers = append(r.servers, a)
			}
		}
	}
	return r
}

// reachable leaves out name servers that are somebody else in another network namespace:
// those on loopback, and of one interface.
func (r resolv) reachable() resolv {
	r.servers = slices.DeleteFunc(slices.Clone(r.servers), func(a netip.Addr) bool {
		return a.IsLoopback() || a.IsUnspecified() || a.Zone() != "" || a.IsLinkLocalUnicast()
	})
	return r
}

func (r resolv) text() []byte {
	var b bytes.Buffer
	for _, s := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	for _, line := range r.rest {
		b.WriteString(line + "\n")
	}
	return b.Bytes()
}

// nodeResolv is the node's, of what a container can reach.
func nodeResolv(main, resolved []byte) resolv {
	r := parseResolv(main)
	if usable := r.reachable(); len(usable.servers) > 0 || len(r.servers) == 0 {
		return usable
	}
	return parseResolv(resolved).reachable()
}

// Resolv is the resolv.conf of a container: with the name servers of the configuration,
// else those that plugins name, else the node's.
func (a *Attachment) Resolv(servers []netip.Addr) []byte {
	r := nodeResolv(readFile("/etc/resolv.conf"), readFile(resolvedFile))
	if dns := a.record.Result.DNS; len(dns.Nameservers) > 0 {
		r = resolv{}
		for _, s := range dns.Nameservers {
			if server, err := netip.ParseAddr(s); err == nil {
				r.servers = append(r.servers, server)
			}
		}
		if len(dns.Search) > 0 {
			r.rest = append(r.rest, "search "+strings.Join(dns.Search, " "))
		}
		if len(dns.Options) > 0 {
			r.rest = append(r.rest, "options "+strings.Join(dns.Options, " "))
		}
	}
	if len(servers) > 0 {
		r.servers = servers
	}
	return r.text()
}
