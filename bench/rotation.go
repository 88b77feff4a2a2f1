package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// How many workloads move, and how many at a time; how many are left alone by how many
// updates; and how long it may take from an update to the first one that moves, with the
// quiet time that is waited for by default.
const (
	movers     = 100
	atATime    = 8
	bystanders = 500
	updates    = 10000
	firstGoal  = 1200 * time.Millisecond
	cpuGoal    = 10 * time.Second
	moveGoal   = 1.3
)

// rotationSettings are those of a node that has room for them all.
var rotationSettings = fmt.Sprintf("[rotation]\nmax_parallel = %d\n[capacity]\novercommit_cpu = 1000.0\novercommit_memory = 1000.0\novercommit_pids = 1000.0\n", atATime)

// measureRotation measures how workloads move to new versions of their secrets.
func measureRotation(ctx context.Context, containerd string, rounds int) error {
	began := time.Now()
	n, err := startNode(ctx, containerd, "app", rotationSettings)
	if err != nil {
		return err
	}
	defer func() {
		stopping := time.Now()
		n.stop()
		fmt.Printf("  the node stopped in %.0f s; the whole took %.0f s\n", time.Since(stopping).Seconds(), time.Since(began).Seconds())
	}()
	fmt.Printf("rotation, containerd %s\n", n.version)
	for _, strategy := range []string{"restart", "rolling"} {
		if err := n.measureFirst(ctx, strategy, rounds); err != nil {
			return err
		}
	}
	if err := n.measureMoves(ctx, max(1, rounds/10)); err != nil {
		return err
	}
	return n.measureBystanders(ctx)
}

// rotating is a workload that takes no time to stop, and uses one key of a secret.
func rotating(app, function, strategy string) *purserv1.LaunchSpec {
	return &purserv1.LaunchSpec{
		App: &app, Function: &function, Image: &purserv1.Image{Ref: proto.String(image)},
		Command:  []string{"sleep", "1000000"},
		Secrets:  []*purserv1.SecretRef{{Name: &app, Keys: map[string]string{"KEY": "KEY"}}},
		Rotation: &purserv1.Rotation{Strategy: &strategy, MinReady: proto.String("0s")},
		Stop:     &purserv1.Stop{Signal: proto.String("SIGKILL"), Grace: proto.String("0s")},
	}
}

// crowd launches workloads of an app, which is named as its secret.
func (n *node) crowd(ctx context.Context, app, strategy string, many int) (ids []string, err error) {
	if err := n.put(ctx, app, "KEY", "0"); err != nil {
		return nil, err
	}
	for i := range many {
		ids = append(ids, fmt.Sprintf("%s/f%03d", app, i))
	}
	return ids, each(ids, func(id string) error {
		_, function, _ := strings.Cut(id, "/")
		if _, err := n.api.Workloads.Launch(ctx, connect.NewRequest(&purserv1.LaunchRequest{Spec: rotating(app, function, strategy)})); err != nil {
			return err
		}
		return n.awaitRunning(ctx, id)
	})
}

// each does something for each workload, as many at a time as move.
func each(ids []string, do func(id string) error) error {
	var all errgroup.Group
	all.SetLimit(atATime)
	for _, id := range ids {
		all.Go(func() error { return do(id) })
	}
	return all.Wait()
}

func (n *node) awaitRunning(ctx context.Context, id string) error {
	answer, err := n.api.Workloads.Wait(ctx, connect.NewRequest(&purserv1.WaitRequest{Id: id, Until: "running"}))
	if err != nil {
		return err
	}
	if w := answer.Msg.GetWorkload(); w.GetState() != "running" {
		return fmt.Errorf("%s is %s: %s", id, w.GetState(), w.GetReason())
	}
	return nil
}

func (n *node) removeAll(ctx context.Context, ids []string) error {
	return each(ids, func(id string) error {
		_, err := n.api.Workloads.Remove(ctx, connect.NewRequest(&purserv1.RemoveRequest{Id: id, Force: true}))
		return err
	})
}

// measureFirst measures from when an update is accepted until the workload that uses it is
// touched: until its process has ended, or containerd has created another one.
func (n *node) measureFirst(ctx context.Context, strategy string, rounds int) error {
	app := "first-" + strategy
	ids, err := n.crowd(ctx, app, strategy, 1)
	if err != nil {
		return err
	}
	created, failed := n.plain.EventService().Subscribe(ctx, `topic=="/tasks/create"`)
	var times []time.Duration
	for round := range rounds {
		if err := n.awaitVersion(ctx, ids, uint32(round+1)); err != nil {
			return err
		}
		pids, err := n.pids(ctx, ids)
		if err != nil {
			return err
		}
		for len(created) > 0 {
			<-created
		}
		if err := n.put(ctx, app, "KEY", strconv.Itoa(round+1)); err != nil {
			return err
		}
		began := time.Now()
		if strategy == "restart" {
			for syscall.Kill(pids[0], 0) == nil {
				time.Sleep(time.Millisecond)
			}
		} else {
			select {
			case <-created:
			case err := <-failed:
				return err
			}
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	verdict := "met"
	if times[len(times)-1] > firstGoal {
		verdict = "MISSED"
	}
	fmt.Printf("  %-8s from an update to the first that moves: median %.0f ms, longest of %d %.0f ms, goal %.0f ms %s\n",
		strategy, ms(times[len(times)/2]), rounds, ms(times[len(times)-1]), ms(firstGoal), verdict)
	return n.removeAll(ctx, ids)
}

// pids are the processes of workloads that have one instance each.
func (n *node) pids(ctx context.Context, ids []string) ([]int, error) {
	answer, err := n.api.Workloads.List(ctx, connect.NewRequest(&purserv1.ListRequest{}))
	if err != nil {
		return nil, err
	}
	byID := map[string]*purserv1.Workload{}
	for _, w := range answer.Msg.GetWorkloads() {
		byID[w.GetId()] = w
	}
	var all []int
	for _, id := range ids {
		if is := byID[id].GetInstances(); len(is) != 1 {
			return nil, fmt.Errorf("%s has %d instances", id, len(is))
		}
		all = append(all, int(byID[id].GetInstances()[0].GetPid()))
	}
	return all, nil
}

// awaitVersion waits until workloads are on a version of their secret, and at rest.
func (n *node) awaitVersion(ctx context.Context, ids []string, version uint32) error {
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		answer, err := n.api.Workloads.List(ctx, connect.NewRequest(&purserv1.ListRequest{}))
		if err != nil {
			return err
		}
		arrived := 0
		for _, w := range answer.Msg.GetWorkloads() {
			if slices.Contains(ids, w.GetId()) && len(w.GetInstances()) == 1 && w.GetRotation().GetState() == "current" && w.GetPins()[0].GetVersion() == version {
				arrived++
			}
		}
		if arrived == len(ids) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("not all workloads have come to version %d", version)
}

// measureMoves holds a rotation against stopping and starting the same workloads by hand,
// as many at a time.
func (n *node) measureMoves(ctx context.Context, rounds int) error {
	ids, err := n.crowd(ctx, "movers", "restart", movers)
	if err != nil {
		return err
	}
	byHand := &contender{name: "by hand", launch: func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		err := each(ids, func(id string) error { return n.stopAndStart(ctx, id) })
		return time.Since(began), err
	}}
	version := uint32(1)
	byPurser := &contender{name: fmt.Sprintf("a rotation of %d", movers), launch: func(ctx context.Context) (time.Duration, error) {
		version++
		return n.rotate(ctx, ids, version)
	}}
	for range rounds {
		for _, c := range []*contender{byHand, byPurser} {
			took, err := c.launch(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.times = append(c.times, took)
		}
	}
	report(fmt.Sprintf("  %d at a time, without the quiet time, medians of %d", atATime, rounds), []pair{{byPurser, byHand, moveGoal}})
	return n.removeAll(ctx, ids)
}

func (n *node) stopAndStart(ctx context.Context, id string) error {
	if _, err := n.api.Workloads.Stop(ctx, connect.NewRequest(&purserv1.StopRequest{Id: id})); err != nil {
		return err
	}
	if _, err := n.api.Workloads.Start(ctx, connect.NewRequest(&purserv1.StartRequest{Id: id})); err != nil {
		return err
	}
	return n.awaitRunning(ctx, id)
}

// rotate has all workloads move to a version, and says how long it took from when the first
// began until the last had.
func (n *node) rotate(ctx context.Context, ids []string, version uint32) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := n.api.Node.Events(ctx, connect.NewRequest(&purserv1.EventsRequest{Follow: true}))
	if err != nil {
		return 0, err
	}
	defer events.Close()
	after := time.Now()
	if err := n.put(ctx, "movers", "KEY", strconv.Itoa(int(version))); err != nil {
		return 0, err
	}
	var began time.Time
	left := len(ids)
	for events.Receive() {
		e := events.Msg().GetEvent()
		at := e.GetTime().AsTime()
		switch {
		case at.Before(after):
		case e.GetType() == "RotationBegun" && began.IsZero():
			began = at
		case e.GetType() == "Rotated":
			if left--; left == 0 {
				return at.Sub(began), nil
			}
		case e.GetType() == "BackedOut", e.GetType() == "RotationDeferred":
			return 0, fmt.Errorf("%s: %s", e.GetSubject(), e.GetMessage())
		}
	}
	return 0, errors.Join(errors.New("the events have ended"), events.Err())
}

// measureBystanders has a key updated often that no workload uses.
func (n *node) measureBystanders(ctx context.Context) error {
	ids, err := n.crowd(ctx, "bystanders", "rolling", bystanders)
	if err != nil {
		return err
	}
	before, err := n.pids(ctx, ids)
	if err != nil {
		return err
	}
	agent, err := n.agentPID()
	if err != nil {
		return err
	}
	cpu, began := cpuOf(agent), time.Now()
	for i := range updates {
		if err := n.put(ctx, "bystanders", "UNUSED", strconv.Itoa(i)); err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second) // for what is still to come of the last one
	used, took := cpuOf(agent)-cpu, time.Since(began)
	after, err := n.pids(ctx, ids)
	if err != nil {
		return err
	}
	moved := 0
	for i := range ids {
		if before[i] != after[i] {
			moved++
		}
	}
	verdict := "met"
	if used > cpuGoal || moved > 0 {
		verdict = "MISSED"
	}
	fmt.Printf("  %d updates of a key that none of %d workloads uses, in %.0f s: %d have moved, the agent took %.1f s of CPU, goal %.0f s %s\n",
		updates, bystanders, took.Seconds(), moved, used.Seconds(), cpuGoal.Seconds(), verdict)
	return nil
}

// agentPID is the process of the node's agent.
func (n *node) agentPID() (int, error) {
	out, err := exec.Command("pgrep", "-f", "--parent", strconv.Itoa(n.dev.Process.Pid), "purser agent").Output()
	if err != nil {
		return 0, fmt.Errorf("looking for the agent: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// cpuOf is the CPU time that a process has used; none of one that is no more.
func cpuOf(pid int) time.Duration {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const tick = 10 * time.Millisecond // USER_HZ is 100 on all that Go runs on
	return time.Duration(user+system) * tick
}
