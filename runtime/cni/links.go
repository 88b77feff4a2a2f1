package cni

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// link is one of the node's network interfaces.
type link struct {
	index  uint32
	master uint32 // the index of the bridge that it is connected to; 0 for none
}

// listLinks lists them by name.
func listLinks() (map[string]link, error) {
	answers, err := onRoute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, unix.SizeofIfInfomsg),
	})
	if err != nil {
		return nil, fmt.Errorf("listing network interfaces: %w", err)
	}
	all := map[string]link{}
	for _, answer := range answers {
		if len(answer.Data) < unix.SizeofIfInfomsg {
			continue
		}
		l, name := link{index: binary.NativeEndian.Uint32(answer.Data[4:])}, ""
		attributes, err := netlink.NewAttributeDecoder(answer.Data[unix.SizeofIfInfomsg:])
		if err != nil {
			return nil, fmt.Errorf("listing network interfaces: %w", err)
		}
		for attributes.Next() {
			switch attributes.Type() {
			case unix.IFLA_IFNAME:
				name = attributes.String()
			case unix.IFLA_MASTER:
				l.master = attributes.Uint32()
			}
		}
		all[name] = l
	}
	return all, nil
}

// addBridge makes a bridge.
func addBridge(name string) error {
	e := netlink.NewAttributeEncoder()
	e.String(unix.IFLA_IFNAME, name)
	e.Nested(unix.IFLA_LINKINFO, func(e *netlink.AttributeEncoder) error {
		e.String(unix.IFLA_INFO_KIND, "bridge")
		return nil
	})
	return link{}.set(unix.AF_UNSPEC, unix.RTM_NEWLINK, netlink.Create|netlink.Excl, e)
}

// connect makes an interface a port of a bridge, as the plugin does: what a container sends
// to a port of its own, by way of the node, comes back to it (hairpin).
func (l link) connect(bridge link) error {
	e := netlink.NewAttributeEncoder()
	e.Uint32(unix.IFLA_MASTER, bridge.index)
	if err := l.set(unix.AF_UNSPEC, unix.RTM_NEWLINK, 0, e); err != nil {
		return err
	}
	port := netlink.NewAttributeEncoder()
	port.Nested(unix.IFLA_PROTINFO, func(e *netlink.AttributeEncoder) error {
		e.Uint8(unix.IFLA_BRPORT_MODE, 1)
		return nil
	})
	return l.set(unix.AF_BRIDGE, unix.RTM_SETLINK, 0, port)
}

func (l link) set(family byte, kind netlink.HeaderType, flags netlink.HeaderFlags, attributes *netlink.AttributeEncoder) error {
	encoded, err := attributes.Encode()
	if err != nil {
		return err
	}
	_, err = onRoute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: flags | netlink.Request | netlink.Acknowledge},
		Data:   append(l.message(family), encoded...),
	})
	return err
}

// message begins one about the interface.
func (l link) message(family byte) []byte {
	m := make([]byte, unix.SizeofIfInfomsg)
	m[0] = family
	binary.NativeEndian.PutUint32(m[4:], l.index)
	return m
}

// onRoute asks the kernel about the calling process's network.
func onRoute(m netlink.Message) ([]netlink.Message, error) {
	route, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	defer route.Close()
	return route.Execute(m)
}
