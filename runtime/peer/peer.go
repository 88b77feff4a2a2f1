// Package peer says who is at the other end of a unix socket.
package peer

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Credentials are those of the process that connected, or that listens, when it did:
// the kernel's word (SO_PEERCRED, unix(7)).
func Credentials(socket *net.UnixConn) (*unix.Ucred, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("asking who is connected: %w", err)
	}
	var who *unix.Ucred
	var refused error
	err = raw.Control(func(fd uintptr) { who, refused = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, refused); err != nil {
		return nil, fmt.Errorf("asking who is connected: %w", err)
	}
	return who, nil
}
