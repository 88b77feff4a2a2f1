package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// prepare makes a new network namespace, which the calling thread is in, one for containers.
func prepare() error {
	if err := linkUp("lo"); err != nil {
		return err
	}
	// Nobody in a container has the right to use raw sockets; with this anybody may ping.
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("allowing ping: %w", err)
	}
	return nil
}

func linkUp(name string) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("looking at interface %s: %w", name, err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("starting interface %s: %w", name, err)
	}
	return nil
}
