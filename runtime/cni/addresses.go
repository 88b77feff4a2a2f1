package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/purserd/purser/runtime/netns"
)

// Which addresses are in use is said by files, of which another program may remove some: all
// of the run directory look as if they were nobody's. The records say the same, so files that
// are lost are made again: when the network is opened, and when an address is given that
// somebody has. After a reboot all are lost, and with them the namespaces: nobody has any.

// errInUse is of an attachment that was given an address of another one's.
var errInUse = errors.New("an address is in use already")

// checkUnused looks whether somebody has an address that a new attachment was given.
func (n *Network) checkUnused(a *Attachment) error {
	n.mu.Lock()
	others := n.attached()
	n.mu.Unlock()
	for _, other := range others {
		for _, ip := range a.Addresses {
			if slices.Contains(other.Addresses, ip) && other.while(func() error { return errInUse }) != nil {
				return fmt.Errorf("connecting a network namespace to %s: %w: %s", n.cfg.Bridge, errInUse, ip)
			}
		}
	}
	return nil
}

// while does something unless the attachment is being disconnected, when its addresses may
// be free already, or its namespace is not there.
func (a *Attachment) while(connected func() error) error {
	if !a.mu.TryLock() {
		return nil
	}
	defer a.mu.Unlock()
	if a.gone || !netns.Pinned(a.NetNS) {
		return nil
	}
	return connected()
}

// keepAddresses makes the files again that are lost.
func (n *Network) keepAddresses() error {
	n.mu.Lock()
	all := n.attached()
	n.mu.Unlock()
	var errs []error
	for _, a := range all {
		if a.record.portOf(n.cfg.Bridge) != "" {
			errs = append(errs, a.while(func() error { return n.cfg.keepAddressesOf(a) }))
		}
	}
	return errors.Join(errs...)
}

func (c Config) keepAddressesOf(a *Attachment) error {
	for _, ip := range a.Addresses {
		switch made, err := c.keepAddress(ip, a.record.ID); {
		case err != nil:
			return fmt.Errorf("noting that address %s is in use: %w", ip, err)
		case made:
			c.Log.Warn("an address that is in use was said to be free, and is not any more", "address", ip, "owner", a.record.Owner)
		}
	}
	return nil
}

// keepAddress makes the file by which host-local knows an address as an attachment's, unless
// there is one.
func (c Config) keepAddress(ip netip.Addr, id string) (made bool, err error) {
	dir := filepath.Join(c.ipamDir(), c.Bridge)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	file, err := os.OpenFile(filepath.Join(dir, ip.String()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = file.WriteString(id + "\r\n" + interfaceName)
	return true, errors.Join(err, file.Close())
}
