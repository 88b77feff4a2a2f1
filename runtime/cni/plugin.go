package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

// pluginTime bounds what plugins do for one attachment.
const pluginTime = time.Minute

// plugins executes them, for libcni. Each holds the lock, and so do the plugins that it
// executes itself, for as long as one of them lives.
type plugins struct {
	version.PluginDecoder
	lock string
}

func (p *plugins) FindInPath(plugin string, dirs []string) (string, error) {
	return invoke.FindInPath(plugin, dirs)
}

func (p *plugins) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	lock, err := openLock(p.lock)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
		return nil, fmt.Errorf("locking %s: %w", p.lock, err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &stdout, &stderr
	cmd.ExtraFiles = []*os.File{lock}
	// What it has started itself ends with it: an IPAM plugin that went on alone would take
	// an address for nobody.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return nil, pluginError(filepath.Base(path), err, stdout.Bytes(), stderr.String())
	}
	return stdout.Bytes(), nil
}

// pluginError is what a plugin says of itself, in JSON as CNI wants it or else in words.
func pluginError(name string, err error, stdout []byte, stderr string) error {
	said := &types.Error{}
	if len(stdout) > 0 && json.Unmarshal(stdout, said) == nil && said.Msg != "" {
		return fmt.Errorf("CNI plugin %s: %w", name, said)
	}
	if stderr = strings.TrimSpace(stderr); stderr != "" {
		err = errors.New(stderr)
	}
	return fmt.Errorf("CNI plugin %s: %w", name, err)
}

func openLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of CNI plugins: %w", err)
	}
	return file, nil
}

// exhausted tells by host-local's words, which have no code, that all addresses are taken.
func exhausted(err error) bool {
	return strings.Contains(err.Error(), "no IP addresses available")
}
