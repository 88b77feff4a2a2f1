package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/renameio/v2"
)

// record is what is kept of an attachment, in a file of its own.
type record struct {
	// ID is random; plugins know the attachment by it.
	ID string `json:"id"`
	// Config is the list of plugins that connected it, and that disconnects it.
	Config json.RawMessage `json:"config"`
	// Result is what they made; nil until they have.
	Result *types100.Result `json:"result,omitempty"`
	// Owner is who has claimed it; empty for nobody.
	Owner string `json:"owner,omitempty"`
}

func (c Config) recordPath(id string) string { return filepath.Join(c.recordDir(), id+".json") }
func (c Config) pinPath(id string) string    { return filepath.Join(c.pinDir(), id) }

// save writes a record in one step. Only the first has to survive a loss of power, which
// takes all namespaces with it: a later one says what becomes of the present one.
func (c Config) save(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding the record of a network namespace: %w", err)
	}
	path := c.recordPath(r.ID)
	if r.Result == nil {
		err = renameio.WriteFile(path, data, 0o600)
	} else {
		err = replace(path, data)
	}
	if err != nil {
		return fmt.Errorf("recording a network namespace: %w", err)
	}
	return nil
}

// replace writes a file in one step without waiting for the disk.
func replace(path string, data []byte) error {
	next := path + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

func (c Config) forget(id string) error {
	if err := os.Remove(c.recordPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the record of a network namespace: %w", err)
	}
	return nil
}

// records reads them all. One that is damaged is removed: it explains nothing, and what it
// was of is found as if it were lost.
func (c Config) records() ([]record, error) {
	entries, err := os.ReadDir(c.recordDir())
	if err != nil {
		return nil, fmt.Errorf("reading the records of network namespaces: %w", err)
	}
	var all []record
	for _, e := range entries {
		path := filepath.Join(c.recordDir(), e.Name())
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			_ = os.Remove(path) // one that was not completed
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the record of a network namespace: %w", err)
		}
		var r record
		if err := json.Unmarshal(data, &r); err != nil || r.ID != id || len(r.Config) == 0 {
			c.Log.Warn("the record of a network namespace is damaged and is removed; unless somebody is in the namespace, its addresses are freed", "file", path, "error", err)
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("removing the record of a network namespace: %w", err)
			}
			continue
		}
		all = append(all, r)
	}
	return all, nil
}

// made says whether an attachment was completed by a configuration.
func (r record) made(config []byte) bool {
	return r.Result != nil && bytes.Equal(r.Config, canonical(config))
}

// canonical is a configuration as it is read from a record.
func canonical(config []byte) []byte {
	data, err := json.Marshal(json.RawMessage(config))
	if err != nil {
		return config
	}
	return data
}

// addresses are those of the container, IPv4 first.
func (r record) addresses() []netip.Addr {
	return r.collect(func(ip *types100.IPConfig) []byte { return ip.Address.IP })
}

// gateways are the node's addresses on the container's network.
func (r record) gateways() []netip.Addr {
	return r.collect(func(ip *types100.IPConfig) []byte { return ip.Gateway })
}

func (r record) collect(of func(*types100.IPConfig) []byte) []netip.Addr {
	var all []netip.Addr
	if r.Result == nil {
		return nil
	}
	for _, ip := range r.Result.IPs {
		if a, ok := netip.AddrFromSlice(of(ip)); ok && !slices.Contains(all, a.Unmap()) {
			all = append(all, a.Unmap())
		}
	}
	slices.SortStableFunc(all, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return all
}
