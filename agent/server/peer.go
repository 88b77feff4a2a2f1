package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"path"
	"strings"

	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/runtime/peer"
)

type peerKey struct{}

// withPeer is the context of a connection, with who is at its other end.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	caller, err := callerAt(socket)
	if err != nil {
		return ctx // the connection has ended
	}
	return context.WithValue(ctx, peerKey{}, caller)
}

// peerOf is who made the connection that a request came by; nil when nobody knows.
func peerOf(ctx context.Context) *audit.Caller {
	caller, _ := ctx.Value(peerKey{}).(*audit.Caller)
	return caller
}

// callerAt asks the kernel, and then /proc, which cannot be had of a process
// that has ended.
func callerAt(socket *net.UnixConn) (*audit.Caller, error) {
	ucred, err := peer.Credentials(socket)
	if err != nil {
		return nil, err
	}
	caller := &audit.Caller{UID: ucred.Uid, GID: ucred.Gid, PID: ucred.Pid}
	caller.Program, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", ucred.Pid))
	cgroups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", ucred.Pid))
	caller.Unit = unitOf(string(cgroups))
	return caller, nil
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
