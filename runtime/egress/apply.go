package egress

import (
	"errors"
	"fmt"

	"github.com/google/nftables"

	"github.com/purserd/purser/runtime/netns"
)

// Apply limits what is sent from the network namespace at a path. It replaces what was
// there, at once: nothing passes meanwhile that neither policy lets pass. With a policy
// that limits nothing, no rules are left. For one namespace it is called by one at a time.
func Apply(path string, p Policy) error {
	clients, err := lowestClientPort()
	if err != nil {
		return err
	}
	return netns.Do(path, func() error { return apply(p, clients) })
}

// apply is for the calling thread's network.
func apply(p Policy, clients uint16) error {
	conn := &nftables.Conn{}
	if err := remove(conn); err != nil {
		return err
	}
	if !p.Limits() {
		return flush(conn)
	}
	found, err := look()
	if err != nil {
		return err
	}
	l := limits{Policy: p, place: found, clientPorts: clients}
	if err := errors.Join(l.wall(conn), l.courtesy(conn)); err != nil {
		return fmt.Errorf("building firewall rules: %w", err)
	}
	return flush(conn)
}

// remove deletes the tables that are there. Deleting takes the kernel some 10 ms, in which
// it waits for its other processors, so a new namespace is spared that.
func remove(conn *nftables.Conn) error {
	tables, err := conn.ListTables()
	if err != nil {
		return fmt.Errorf("listing firewall rules: %w", err)
	}
	for _, t := range tables {
		if t.Name == tableName {
			conn.DelTable(t)
		}
	}
	return nil
}

func flush(conn *nftables.Conn) error {
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("setting firewall rules: %w", err)
	}
	return nil
}

// Dropped is how many packets were not sent from the network namespace at a path, refused
// or dropped, since its policy was applied; 0 when it has none.
func Dropped(path string) (packets uint64, err error) {
	err = netns.Do(path, func() error {
		for _, f := range []nftables.TableFamily{nftables.TableFamilyNetdev, nftables.TableFamilyINet} {
			n, err := dropped(f)
			if err != nil {
				return fmt.Errorf("counting what was dropped: %w", err)
			}
			packets += n
		}
		return nil
	})
	return packets, err
}

// dropped is 0 without a table.
func dropped(family nftables.TableFamily) (packets uint64, err error) {
	found, err := (&nftables.Conn{}).GetObjects(&nftables.Table{Name: tableName, Family: family})
	for _, o := range found {
		if c, ok := o.(*nftables.CounterObj); ok && c.Name == counterName {
			packets += c.Packets
		}
	}
	return packets, err
}
