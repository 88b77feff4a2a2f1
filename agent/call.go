package agent

import (
	"context"
	"sync/atomic"

	"github.com/purserd/purser/inject/audit"
)

// Call is a call of the API, in the context of the methods that serve it.
type Call struct {
	// Caller is nil when the kernel does not tell who it is.
	Caller *audit.Caller
	// Method is the API's, as "Secrets/Put".
	Method string

	recorded atomic.Bool
}

// Recorded says whether the audit trail has a record of the call.
func (c *Call) Recorded() bool { return c.recorded.Load() }

type callKey struct{}

// WithCall returns a context of a call.
func WithCall(ctx context.Context, c *Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// CallOf is the call that a context is of; nil for none.
func CallOf(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}
