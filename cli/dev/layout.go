package dev

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/purserd/purser/agent/config"
)

// maxSocketPath is what a unix socket's path may have, less the closing NUL
// byte (unix(7)).
const maxSocketPath = 107

const (
	agentSocketName      = "purser.sock"
	containerdSocketName = "containerd.sock"
	// longestSocket is a socket that containerd makes beside its own.
	longestSocket = containerdSocketName + ".ttrpc"
)

// layout says where a node's files are.
type layout struct {
	dir string
	// hash tells the node from others on this machine.
	hash string
	// sockets is where the sockets are: dir, or a short one for them alone.
	sockets string
}

// makeLayout makes the directory and its parts.
func makeLayout(dir string) (*layout, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the node's directory: %w", err)
	}
	// One directory is one node, by whatever links it is reached.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	l := newLayout(dir)
	for _, sub := range []string{l.path("containerd", "root"), l.path("containerd", "state"), l.path("log")} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, fmt.Errorf("making the node's directory: %w", err)
		}
	}
	return l, nil
}

func newLayout(dir string) *layout {
	sum := sha256.Sum256([]byte(dir))
	l := &layout{dir: dir, hash: hex.EncodeToString(sum[:4]), sockets: dir}
	if len(filepath.Join(dir, longestSocket)) > maxSocketPath {
		l.sockets = "/run/purser-dev-" + l.hash
	}
	return l
}

func (l *layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

func (l *layout) agentSocket() string      { return filepath.Join(l.sockets, agentSocketName) }
func (l *layout) containerdSocket() string { return filepath.Join(l.sockets, containerdSocketName) }
func (l *layout) cgroupParent() string     { return "/purser-dev-" + l.hash }
func (l *layout) host() string             { return "unix://" + l.agentSocket() }

// prepareSockets removes what a killed node has left, and links to sockets
// that lie elsewhere.
func (l *layout) prepareSockets() error {
	l.removeSockets()
	if l.sockets == l.dir {
		return nil
	}
	if err := os.MkdirAll(l.sockets, 0o700); err != nil {
		return fmt.Errorf("making a directory for sockets: %w", err)
	}
	for _, name := range []string{agentSocketName, containerdSocketName} {
		if err := os.Symlink(filepath.Join(l.sockets, name), l.path(name)); err != nil {
			return fmt.Errorf("linking to a socket: %w", err)
		}
	}
	return nil
}

// bridge is the interface that the node's containers are connected to.
func (l *layout) bridge() string { return "purser-" + l.hash }

func (l *layout) removeSockets() {
	for _, name := range []string{agentSocketName, containerdSocketName, longestSocket} {
		removeSocket(l.path(name))
		removeSocket(filepath.Join(l.sockets, name))
	}
	removeSocket(config.LogLink(l.agentSocket()))
	if l.sockets != l.dir {
		_ = os.Remove(l.sockets)
	}
}

// removeSocket removes a socket or a link, never a file that a user has put
// there.
func removeSocket(path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	if info.Mode()&(fs.ModeSocket|fs.ModeSymlink) != 0 {
		_ = os.Remove(path)
	}
}
