package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// maxFileSize is far above what a key and its comments need, and keeps a wrong
// path from being read whole.
const maxFileSize = 64 << 10

// Open reads the identity from a file, and makes it first when there is none. The
// file must belong to the process's user and be closed to everybody else.
func Open(path string) (*Keyring, error) {
	keys, err := read(path, checkOwnership)
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	if err := generate(path); err != nil {
		return nil, fmt.Errorf("making the node's identity %q: %w", path, err)
	}
	// What lies there may be another process's, which was faster.
	return read(path, checkOwnership)
}

// OpenCredential reads the identity from a file that is there and somebody else's
// to guard, such as a systemd credential: its mode is not checked, because systemd
// may grant access by an ACL that shows as group permissions.
func OpenCredential(path string) (*Keyring, error) {
	return read(path, func(fs.FileInfo) error { return nil })
}

func read(path string, check func(fs.FileInfo) error) (*Keyring, error) {
	// Without O_NONBLOCK a FIFO under that name would hang the start.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the node's identity: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening the node's identity: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the node's identity %q is not a regular file", path)
	}
	if err := check(info); err != nil {
		return nil, fmt.Errorf("the node's identity %q %w", path, err)
	}
	identity, err := parse(io.LimitReader(file, maxFileSize))
	if err != nil {
		return nil, fmt.Errorf("reading the node's identity %q: %w", path, err)
	}
	return &Keyring{identity: identity}, nil
}

// checkOwnership returns an error that continues a sentence about the file.
func checkOwnership(info fs.FileInfo) error {
	owner, self := int(info.Sys().(*syscall.Stat_t).Uid), os.Geteuid()
	if owner != self {
		return fmt.Errorf("belongs to user %d, not to %d that purser runs as; if nobody else has read it: chown %d and try again", owner, self, self)
	}
	if mode := info.Mode().Perm(); mode&^0o600 != 0 {
		return fmt.Errorf("is open to others (mode %04o); if nobody has read it: chmod 600 and try again", mode)
	}
	return nil
}

// parse takes exactly one X25519 identity. Its errors quote nothing of the input.
func parse(r io.Reader) (*age.X25519Identity, error) {
	identities, err := age.ParseIdentities(r)
	if err != nil {
		return nil, fmt.Errorf("not an age identity as age-keygen writes it: %w", err)
	}
	if len(identities) != 1 {
		return nil, fmt.Errorf("holds %d identities, a node has one", len(identities))
	}
	identity, ok := identities[0].(*age.X25519Identity)
	if !ok {
		return nil, errors.New("is of a kind that purser does not use: it must start with AGE-SECRET-KEY-1")
	}
	return identity, nil
}
