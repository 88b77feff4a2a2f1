// Package supervise keeps one workload as it is wanted.
//
// A workload's state goes through these steps:
//
//	           Launch
//	             │
//	             ▼        started             exit 0 of a job, or of a
//	┌──────► starting ───────────► running ──► service not to be restarted ──► completed
//	│         ▲  │                  │   │
//	│         ▼  │                  │   │
//	│    pulling │                  │   │
//	│ next try   │ no image,        │   └────► any other final exit ─────────► failed
//	│            ▼ no secret…       │ exit
//	├─────── backing_off ◄──────────┤
//	│                               │ stop, remove, new spec, timeout
//	│ new spec                      ▼
//	└─────── pending ◄─────────── stopping ──► stopped, or forgotten
//
// What to do next is decided by [Step], a pure function of what is wanted
// ([Desired]), what is ([Status]) and the time; what an action, or the
// container itself, brought about is folded in by the pure functions of
// outcome.go. Neither has a goroutine, a lock or a clock.
//
// Whether an image has to be pulled is known when a start looks for it: the start
// then says so, and again when the image is there (entered, in outcome.go).
//
// [Supervisor] is the goroutine around them: it takes in wishes (newest wins)
// and outcomes, asks Step, persists the answer and carries it out, one action
// at a time, each in a goroutine of its own so that it can be cancelled. An
// instance is recorded before it is created and until it has been deleted, so
// that an agent that starts anew knows of each container; it compares the
// record with containerd (Inspect) before it does anything else, and leaves
// alone what runs as it should.
package supervise
