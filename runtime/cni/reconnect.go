package cni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

// Another program may remove the bridge, as one does that sets up the node's network anew,
// or take from it what it needs. Whoever is connected next has the plugin make it again, but
// nobody else is on that one: not those that run, nor those that are ready.

// keepBridge has the bridge made again if it is not as it should be, and those connected to
// it again that were.
func (n *Network) keepBridge() error {
	n.mu.Lock()
	subnets := n.subnets
	var all []record // as they are now: what is ready may be claimed by somebody meanwhile
	for _, a := range n.attached() {
		all = append(all, a.record)
	}
	n.mu.Unlock()
	if len(subnets) == 0 || len(all) == 0 {
		return nil
	}
	if lack := n.cfg.lack(subnets); lack != "" {
		n.cfg.Log.Warn("the containers' bridge is not as it should be, and is mended", "bridge", n.cfg.Bridge, "lack", lack)
		if err := n.spare(); err != nil {
			return err
		}
	}
	return n.cfg.reconnect(all)
}

// attached are all that are in use or ready. The caller holds mu.
func (n *Network) attached() []*Attachment {
	all := slices.Clone(n.ready)
	for _, a := range n.claimed {
		all = append(all, a)
	}
	return all
}

// spare makes one more attachment, for which the plugin makes what the bridge lacks.
func (n *Network) spare() error {
	a, err := n.make(n.ctx)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.ready = append(n.ready, a)
	n.mu.Unlock()
	n.look() // as it may be one too many
	return nil
}

// lack says in words what of the bridge, which is in use, is not there; empty if it is whole.
func (c Config) lack(subnets []netip.Prefix) string {
	link, err := net.InterfaceByName(c.Bridge)
	if err != nil {
		return "it is gone"
	}
	if link.Flags&net.FlagUp == 0 {
		return "it is down"
	}
	has, err := link.Addrs()
	if err != nil {
		return "" // it goes just now
	}
	for _, s := range subnets {
		own := netip.PrefixFrom(s.Masked().Addr().Next(), s.Bits())
		if !slices.ContainsFunc(has, func(a net.Addr) bool { return a.String() == own.String() }) {
			return "it has no address " + own.String()
		}
		if file := forwarding(s); strings.TrimSpace(string(readFile(file))) == "0" {
			return "the node does not forward packets (" + file + ")"
		}
	}
	return ""
}

// forwarding is where the kernel says whether it forwards packets of a subnet's family.
func forwarding(s netip.Prefix) string {
	if s.Addr().Is4() {
		return "/proc/sys/net/ipv4/ip_forward"
	}
	return "/proc/sys/net/ipv6/conf/all/forwarding"
}

// reconnect connects the interfaces of attachments to the bridge that are not.
func (c Config) reconnect(all []record) error {
	links, err := listLinks()
	if err != nil {
		return err
	}
	bridge, ok := links[c.Bridge]
	if !ok {
		return fmt.Errorf("bridge %s has just gone", c.Bridge)
	}
	for _, r := range all {
		port, ok := links[r.portOf(c.Bridge)]
		if !ok || port.master == bridge.index {
			continue
		}
		c.Log.Warn("a container is connected to the bridge again", "bridge", c.Bridge, "addresses", r.addresses(), "owner", r.Owner)
		failed := port.connect(bridge)
		if failed != nil && !errors.Is(failed, unix.ENODEV) { // it may have been disconnected meanwhile
			err = errors.Join(err, fmt.Errorf("connecting %v to bridge %s again: %w", r.addresses(), c.Bridge, failed))
		}
	}
	return err
}

// portOf is the node's end of an attachment to a bridge; empty if it is to another network.
func (r record) portOf(bridge string) string {
	if r.Result == nil {
		return ""
	}
	onNode := slices.DeleteFunc(slices.Clone(r.Result.Interfaces), func(i *types100.Interface) bool { return i.Sandbox != "" })
	isBridge := func(i *types100.Interface) bool { return i.Name == bridge }
	if !slices.ContainsFunc(onNode, isBridge) {
		return ""
	}
	for _, i := range onNode {
		if !isBridge(i) {
			return i.Name
		}
	}
	return ""
}
