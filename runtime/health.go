package runtime

import "github.com/purserd/purser/runtime/private"

// CheckPrivate fails unless the private directory is on memory that is never swapped,
// without which no container with secrets can be made.
func (r *Runtime) CheckPrivate() error { return private.Check(r.cfg.privateDir()) }
