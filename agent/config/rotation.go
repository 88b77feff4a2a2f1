package config

import (
	"errors"
	"fmt"
	"time"
)

// Rotation says how changes of secrets are carried out on the node.
type Rotation struct {
	// Quiet is for how long nothing may have changed before workloads move, so that what
	// changes together moves together.
	Quiet Duration `toml:"quiet"`
	// MaxDelay is how long that puts the first of the changes off at most.
	MaxDelay Duration `toml:"max_delay"`
	// MaxParallel is how many workloads move at a time.
	MaxParallel int `toml:"max_parallel"`
}

var defaultRotation = Rotation{Quiet: Duration(time.Second), MaxDelay: Duration(10 * time.Second), MaxParallel: 4}

func (r *Rotation) check() error {
	var errs []error
	if r.MaxDelay < r.Quiet {
		errs = append(errs, fmt.Errorf("rotation.max_delay: %s is less than quiet, %s", time.Duration(r.MaxDelay), time.Duration(r.Quiet)))
	}
	if r.MaxParallel < 1 {
		errs = append(errs, errors.New("rotation.max_parallel: must be 1 or more"))
	}
	return errors.Join(errs...)
}
