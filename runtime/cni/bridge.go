package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The network of a node that has none configured: a bridge on which each container has an
// address of its own (plugins bridge and host-local), and the node the first one.
//
// What leaves the bridge takes the node's address. That is one rule for a subnet, made
// here, and not ipMasq of the plugin: that one makes an iptables chain for each container,
// which takes longer than all the rest, and leaves it behind for ever when it is killed
// between removing the interface and removing the chain.

// conflist describes the bridge to libcni.
func (c Config) conflist(subnets []netip.Prefix) ([]byte, error) {
	type subnet struct {
		Subnet string `json:"subnet"`
	}
	var ranges [][]subnet
	for _, s := range subnets {
		ranges = append(ranges, []subnet{{s.String()}})
	}
	mtu := c.MTU
	if mtu == 0 {
		mtu = defaultMTU()
	}
	return json.Marshal(map[string]any{
		// What the plugins of all distributions in use understand.
		"cniVersion": "1.0.0",
		"name":       c.Bridge,
		"plugins": []any{map[string]any{
			"type": "bridge", "bridge": c.Bridge, "mtu": mtu, "hairpinMode": true,
			"isGateway": true, "isDefaultGateway": true,
			// When the subnets are others than they were, so is the node's address.
			"forceAddress": true,
			"ipam":         map[string]any{"type": "host-local", "dataDir": c.ipamDir(), "ranges": ranges},
		}},
	})
}

// bridged is the bridge's configuration, with subnets that are chosen if need be.
func (c Config) bridged() (*libcni.NetworkConfigList, []netip.Prefix, error) {
	subnets, err := c.subnets()
	if err != nil {
		return nil, nil, err
	}
	data, err := c.conflist(subnets)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the configuration of bridge %s: %w", c.Bridge, err)
	}
	list, err := libcni.NetworkConfFromBytes(data)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration of bridge %s: %w", c.Bridge, err)
	}
	return list, subnets, nil
}

// tableName is that of the rules of a bridge in nftables.
func (c Config) tableName() string { return "purser-" + c.Bridge }

// masquerade has what leaves the bridge take the node's address. Called again it makes
// the same rules anew, in one step: another program may have flushed them.
func (c Config) masquerade(subnets []netip.Prefix) error {
	nft, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	for _, s := range subnets {
		table := nft.AddTable(&nftables.Table{Name: c.tableName(), Family: family(s)})
		chain := nft.AddChain(&nftables.Chain{
			Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		nft.FlushChain(chain)
		nft.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: c.leaving(s)})
	}
	if err := nft.Flush(); err != nil {
		return fmt.Errorf("translating the addresses of bridge %s (nftables): %w", c.Bridge, err)
	}
	return nil
}

func family(s netip.Prefix) nftables.TableFamily {
	if s.Addr().Is4() {
		return nftables.TableFamilyIPv4
	}
	return nftables.TableFamilyIPv6
}

// leaving matches packets from a subnet that do not leave through the bridge.
func (c Config) leaving(s netip.Prefix) []expr.Any {
	source, size := uint32(12), uint32(4) // of the address in the header (RFC 791)
	if s.Addr().Is6() {
		source, size = 8, 16 // RFC 8200
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, c.Bridge)
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(s.Bits(), s.Addr().BitLen()), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: s.Masked().Addr().AsSlice()},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
		&expr.Masq{},
	}
}

// makeBridge makes a bridge that is not there yet, and notes before that it is ours. The
// plugin finds it then, and gives it all that it needs.
//
// It is made here so that its IPv6 address can be used at once. For a second or two the
// kernel would look whether somebody else has it, and whoever sends to a container meanwhile
// would do so from another address, to which there is no way back: a client of a published
// UDP port for as long as it goes on sending.
func (n *Network) makeBridge() error {
	n.bridging.Lock()
	defer n.bridging.Unlock()
	return n.cfg.makeBridge()
}

func (c Config) makeBridge() error {
	if _, err := net.InterfaceByName(c.Bridge); err == nil {
		return nil
	}
	if err := os.WriteFile(c.bridgeNote(), nil, 0o600); err != nil {
		return fmt.Errorf("noting that bridge %s is made: %w", c.Bridge, err)
	}
	if err := addBridge(c.Bridge); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making bridge %s: %w", c.Bridge, err)
	}
	path := filepath.Join("/proc/sys/net/ipv6/conf", c.Bridge, "accept_dad")
	if err := os.WriteFile(path, []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("having the address of bridge %s be used at once: %w", c.Bridge, err)
	}
	return nil
}

func (c Config) bridgeNote() string { return filepath.Join(c.StateDir, "made-"+c.Bridge) }

// removeOwn removes the bridge unless somebody else has made it, with its rules.
func (c Config) removeOwn() error {
	if _, err := os.Stat(c.bridgeNote()); err != nil {
		return nil
	}
	if err := c.removeTables(); err != nil {
		return err
	}
	if err := c.removeBridge(); err != nil {
		return err
	}
	return os.Remove(c.bridgeNote())
}

// Remove removes a bridge that was made with that state directory, and its rules, when all
// that has used it is gone.
func Remove(bridge, stateDir string) error {
	return Config{Bridge: bridge, StateDir: stateDir}.removeOwn()
}

func (c Config) removeTables() error {
	nft, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	tables, err := nft.ListTables()
	if err != nil {
		return fmt.Errorf("listing the tables of nftables: %w", err)
	}
	for _, t := range tables {
		if t.Name == c.tableName() {
			nft.DelTable(t)
		}
	}
	if err := nft.Flush(); err != nil {
		return fmt.Errorf("removing table %s of nftables: %w", c.tableName(), err)
	}
	return nil
}

func (c Config) removeBridge() error {
	found, err := net.InterfaceByName(c.Bridge)
	if err != nil {
		return nil // it is not there
	}
	_, err = onRoute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_DELLINK, Flags: netlink.Request | netlink.Acknowledge},
		Data:   link{index: uint32(found.Index)}.message(unix.AF_UNSPEC),
	})
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing bridge %s: %w", c.Bridge, err)
	}
	return nil
}
