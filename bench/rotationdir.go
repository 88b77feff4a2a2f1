package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// watched is an app whose secret is a file in a directory that the node watches.
const watched = "watched"

// measureDirectory measures from when a watched file is renamed over the one before until
// the workload that uses it is touched: until its process has ended.
func measureDirectory(ctx context.Context, containerd string, rounds int) error {
	dir, err := os.MkdirTemp("/tmp", "purser-bench-source-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, err := startNode(ctx, containerd, "app", fmt.Sprintf("[sources.bench]\ntype = \"dir\"\npath = %q\nenvironment = \"dev\"\n", dir))
	if err != nil {
		return err
	}
	defer n.stop()
	if err := n.launchWatched(ctx, dir); err != nil {
		return err
	}
	var times []time.Duration
	for round := range rounds {
		took, err := n.moveWatched(ctx, dir, round+1)
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	slices.Sort(times)
	verdict := "met"
	if times[len(times)-1] > firstGoal {
		verdict = "MISSED"
	}
	fmt.Printf("  from a watched file's rename to the first that moves: median %.0f ms, longest of %d %.0f ms, goal %.0f ms %s\n",
		ms(times[len(times)/2]), rounds, ms(times[len(times)-1]), ms(firstGoal), verdict)
	return nil
}

// renameWatched puts a new file in the place of the one before, as one should.
func renameWatched(dir string, value int) error {
	next := filepath.Join(dir, "."+watched)
	if err := os.WriteFile(next, fmt.Appendf(nil, "KEY=%d\n", value), 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, watched+".env"))
}

// launchWatched launches the workload, when the secret has been found.
func (n *node) launchWatched(ctx context.Context, dir string) error {
	if err := renameWatched(dir, 0); err != nil {
		return err
	}
	describe := connect.NewRequest(&purserv1.DescribeRequest{Name: watched})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := n.api.Secrets.Describe(ctx, describe); err == nil {
			break
		} else if time.Now().After(deadline) {
			return err
		}
	}
	if _, err := n.api.Workloads.Launch(ctx, connect.NewRequest(&purserv1.LaunchRequest{Spec: rotating(watched, "f", "restart")})); err != nil {
		return err
	}
	return n.awaitRunning(ctx, watched+"/f")
}

// moveWatched has the workload move once.
func (n *node) moveWatched(ctx context.Context, dir string, value int) (time.Duration, error) {
	ids := []string{watched + "/f"}
	if err := n.awaitVersion(ctx, ids, uint32(value)); err != nil {
		return 0, err
	}
	pids, err := n.pids(ctx, ids)
	if err != nil {
		return 0, err
	}
	if err := renameWatched(dir, value); err != nil {
		return 0, err
	}
	began := time.Now()
	for syscall.Kill(pids[0], 0) == nil {
		time.Sleep(time.Millisecond)
	}
	return time.Since(began), nil
}
