package cni

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// choices is where a node's IPv4 subnet comes from, each of the size of choiceBits: of what
// is private (RFC 1918) a part that others seldom take by default.
var choices = netip.MustParsePrefix("10.208.0.0/12")

const choiceBits = 20

// subnets are those of the bridge: configured, or chosen once and kept.
func (c Config) subnets() ([]netip.Prefix, error) {
	if len(c.Subnets) > 0 {
		return c.Subnets, nil
	}
	path := filepath.Join(c.StateDir, "subnets.json")
	var kept []netip.Prefix
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err == nil && len(kept) > 0 {
		return kept, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Log.Warn("the bridge's subnets cannot be read; choosing others", "file", path, "error", err)
	}
	chosen, err := c.choose()
	if err != nil {
		return nil, err
	}
	if data, err = json.Marshal(chosen); err != nil {
		return nil, fmt.Errorf("encoding the bridge's subnets: %w", err)
	}
	if err := renameio.WriteFile(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("keeping the bridge's subnets: %w", err)
	}
	return chosen, nil
}

// choose finds subnets that the node has no other use for.
func (c Config) choose() ([]netip.Prefix, error) {
	used, err := c.used()
	if err != nil {
		return nil, err
	}
	four, err := c.chooseIPv4(used)
	if err != nil {
		return nil, err
	}
	chosen := []netip.Prefix{four}
	if hasIPv6() {
		chosen = append(chosen, uniqueLocal())
	}
	return chosen, nil
}

// chooseIPv4 begins at a place that depends on the bridge's name, so that nodes on one
// machine do not try the same ones.
func (c Config) chooseIPv4(used []netip.Prefix) (netip.Prefix, error) {
	hash := fnv.New32a()
	hash.Write([]byte(c.Bridge))
	n := uint32(1) << (choiceBits - choices.Bits())
	for i := range n {
		candidate := nth(choices, choiceBits, (hash.Sum32()+i)%n)
		if !slices.ContainsFunc(used, candidate.Overlaps) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("no subnet of %s is free for bridge %s: give it one (network.subnets in the configuration)", choices, c.Bridge)
}

// nth is a part of a prefix.
func nth(of netip.Prefix, bits int, n uint32) netip.Prefix {
	a := of.Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v += n << (32 - bits)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), bits)
}

// uniqueLocal is a subnet of a random prefix that is nobody else's (RFC 4193).
func uniqueLocal() netip.Prefix {
	a := [16]byte{0xfd}
	rand.Read(a[1:6])
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// hasIPv6 says whether interfaces of this node get IPv6 addresses.
func hasIPv6() bool {
	data, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && strings.TrimSpace(string(data)) == "0"
}

// used are the node's own networks, the way to others, and its name servers, but for what
// the bridge itself has.
func (c Config) used() ([]netip.Prefix, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("looking for the node's networks: %w", err)
	}
	var used []netip.Prefix
	for _, link := range links {
		if link.Name == c.Bridge {
			continue
		}
		addresses, err := link.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				used = append(used, p.Masked())
			}
		}
	}
	for _, r := range routes() {
		if r.link != c.Bridge && r.to.Bits() > 0 {
			used = append(used, r.to)
		}
	}
	for _, server := range parseResolv(readFile("/etc/resolv.conf")).servers {
		used = append(used, netip.PrefixFrom(server, server.BitLen()))
	}
	return used, nil
}

// route is one of the node's IPv4 routes.
type route struct {
	link string
	to   netip.Prefix
}

// routes reads the kernel's table; none where there is no IPv4.
func routes() []route {
	file, err := os.Open("/proc/net/route")
	if err != nil {
		return nil
	}
	defer file.Close()
	var all []route
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 {
			continue
		}
		to, toErr := hexAddress(fields[1])
		mask, maskErr := hexAddress(fields[7])
		if toErr == nil && maskErr == nil {
			ones, _ := net.IPMask(mask.AsSlice()).Size()
			all = append(all, route{fields[0], netip.PrefixFrom(to, ones)})
		}
	}
	return all
}

// hexAddress reads an address as the kernel writes it: as a number of the machine's.
func hexAddress(text string) (netip.Addr, error) {
	data, err := hex.DecodeString(text)
	if err != nil || len(data) != 4 {
		return netip.Addr{}, fmt.Errorf("%q is no address", text)
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(data))
	return netip.AddrFrom4(a), nil
}

// defaultMTU is that of the node's way out, or else Ethernet's.
func defaultMTU() int {
	for _, r := range routes() {
		if r.to.Bits() != 0 {
			continue
		}
		if link, err := net.InterfaceByName(r.link); err == nil && link.MTU > 0 {
			return link.MTU
		}
	}
	return 1500
}

func readFile(path string) []byte {
	data, _ := os.ReadFile(path)
	return data
}
