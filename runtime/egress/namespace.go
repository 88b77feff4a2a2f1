package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownNetwork is the namespace of the calling thread.
const ownNetwork = "/proc/thread-self/ns/net"

// within does something on a thread that is in the network namespace at a path.
func within(path string, do func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening the container's network: %w", err)
	}
	defer ns.Close()
	return elsewhere(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering the container's network %s: %w", path, err)
		}
		return do()
	})
}

// elsewhere does something that moves its thread to another network namespace. A thread
// that cannot go back ends. It is not the process's first: that one's namespace is what
// others take for the process's, as in /proc/self/net.
func elsewhere(do func() error) error {
	done := make(chan error)
	go func() {
		goruntime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			done <- elsewhere(do) // while this thread is kept
			goruntime.UnlockOSThread()
			return
		}
		own, err := os.Open(ownNetwork)
		if err != nil {
			goruntime.UnlockOSThread()
			done <- fmt.Errorf("opening the agent's own network: %w", err)
			return
		}
		defer own.Close()
		err = do()
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			goruntime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

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
