package agent

import (
	"context"
	"errors"

	"github.com/purserd/purser/runtime"
)

// Check is one thing that has to be so for the node to be ready for launches.
type Check struct {
	Name string
	// Err says why it is not so.
	Err error
}

// Ready checks whether the node can do what a scheduler would have it do. It waits for
// containerd for two seconds at most.
func (a *Agent) Ready(ctx context.Context) []Check {
	return []Check{
		{"containerd", usable(a.runtime.Status(ctx))},
		{"private_mount", a.runtime.CheckPrivate()},
		{"database", a.db.Check()},
		{"accepts_launches", drainedError(a.drain.get())},
	}
}

// usable is why containerd cannot be used.
func usable(s runtime.Status) error {
	if !s.Connected && s.Err == nil {
		return errors.New("it is not connected")
	}
	return s.Err
}
