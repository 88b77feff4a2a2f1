package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject/audit"
)

type peerKey struct{}

// withPeer is the context of a connection, with who is at its other end.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	peer, err := peerCredentials(socket)
	if err != nil {
		return ctx // the connection has ended
	}
	return context.WithValue(ctx, peerKey{}, peer)
}

// peerOf is who made the connection that a request came by; nil when nobody knows.
func peerOf(ctx context.Context) *audit.Caller {
	peer, _ := ctx.Value(peerKey{}).(*audit.Caller)
	return peer
}

// peerCredentials asks the kernel, and then /proc, which cannot be had of a process
// that has ended.
func peerCredentials(socket *net.UnixConn) (*audit.Caller, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var ucred *unix.Ucred
	var refused error
	err = raw.Control(func(fd uintptr) { ucred, refused = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, refused); err != nil {
		return nil, fmt.Errorf("asking who is connected: %w", err)
	}
	peer := &audit.Caller{UID: ucred.Uid, GID: ucred.Gid, PID: ucred.Pid}
	peer.Program, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", ucred.Pid))
	cgroups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", ucred.Pid))
	peer.Unit = unitOf(string(cgroups))
	return peer, nil
}

// unitOf finds systemd's unit in a process's cgroups; empty when there is none.
func unitOf(cgroups string) string {
	for line := range strings.Lines(cgroups) {
		// The unified hierarchy, or systemd's own of version 1.
		_, rest, _ := strings.Cut(line, ":")
		controllers, group, _ := strings.Cut(strings.TrimSpace(rest), ":")
		if controllers != "" && controllers != "name=systemd" {
			continue
		}
		for ; group != "/" && group != "." && group != ""; group = path.Dir(group) {
			if base := path.Base(group); strings.HasSuffix(base, ".service") || strings.HasSuffix(base, ".scope") {
				return base
			}
		}
	}
	return ""
}
