package agent

import (
	"context"
	"errors"
)

// HoldSecret keeps workloads off the versions of a secret from one on, the one after the
// newest for 0, and returns its number.
func (a *Agent) HoldSecret(ctx context.Context, environment, name string, from uint32) (uint32, error) {
	return 0, errors.ErrUnsupported
}

// ReleaseSecret ends a hold, and returns the version that a new launch gets from then on.
func (a *Agent) ReleaseSecret(ctx context.Context, environment, name string) (uint32, error) {
	return 0, errors.ErrUnsupported
}

// RetrySecret has the versions of a secret be tried again that have failed, and returns them.
func (a *Agent) RetrySecret(ctx context.Context, environment, name string) ([]uint32, error) {
	return nil, errors.ErrUnsupported
}
