package cni

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A plugin that hangs, and whose agent has died, is ended by the next one, with what it has
// started.
func TestHangingPluginOfAnEarlierAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugins.lock")
	lock, err := openLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	plugin := exec.Command("sh", "-c", "sleep 1000 & wait")
	plugin.ExtraFiles = []*os.File{lock}
	if err := plugin.Start(); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if err := awaitPlugins(path, 0, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Errorf("the next agent: %v", err)
	}
	var exit *exec.ExitError
	if err := plugin.Wait(); !errors.As(err, &exit) || exit.Success() {
		t.Errorf("the plugin ended with %v", err)
	}
}

// A plugin that takes too long is ended with the plugins that it has started itself.
func TestHangingPlugin(t *testing.T) {
	dir := t.TempDir()
	p := &plugins{lock: filepath.Join(dir, "plugins.lock")}
	path, began := filepath.Join(dir, "hang"), filepath.Join(dir, "began")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nsleep 1000 &\necho $! >"+began+"\nwait\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(began, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		defer cancel()
		if fifo, err := os.Open(began); err == nil {
			_, _ = bufio.NewReader(fifo).ReadString('\n')
			fifo.Close()
		}
	}()
	if _, err := p.ExecPlugin(ctx, path, nil, os.Environ()); err == nil {
		t.Error("it is said to have succeeded")
	}
	lock, err := openLock(p.lock)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if free, err := awaitLock(lock, 10*time.Second, func() {}); !free || err != nil {
		t.Errorf("what it had started runs on: %v, %v", free, err)
	}
}
