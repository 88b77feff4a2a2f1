package cli

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// parsePublish reads a port as docker's --publish writes it: [[IP:]HOST:]CONTAINER[/udp].
func parsePublish(text string) (*purserv1.Port, error) {
	ports, protocol, hasProtocol := strings.Cut(text, "/")
	p := &purserv1.Port{}
	if hasProtocol {
		if protocol != launchspec.ProtocolTCP && protocol != launchspec.ProtocolUDP {
			return nil, fmt.Errorf("--publish %s: %q is neither tcp nor udp", text, protocol)
		}
		p.Protocol = proto.String(protocol)
	}
	host, container := "", ports
	if i := strings.LastIndexByte(ports, ':'); i >= 0 {
		host, container = ports[:i], ports[i+1:]
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		ip := strings.TrimSuffix(strings.TrimPrefix(host[:i], "["), "]")
		if net.ParseIP(ip) == nil {
			return nil, fmt.Errorf("--publish %s: %q is not an IP address", text, ip)
		}
		p.HostIp, host = proto.String(ip), host[i+1:]
	}
	var err error
	if p.Container, err = parsePort(container); err == nil && host != "" {
		p.Host, err = parsePort(host)
	}
	if err != nil {
		return nil, fmt.Errorf("--publish %s: %w; it is written [[IP:]HOST:]CONTAINER[/udp]", text, err)
	}
	return p, nil
}

func parsePort(text string) (*uint32, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("%q is not a port from 1 to 65535", text)
	}
	return proto.Uint32(uint32(n)), nil
}
