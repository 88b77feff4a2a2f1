// Package supervise keeps one workload as it is wanted.
//
// A workload's state goes through these steps:
//
//	           Launch
//	             │
//	             ▼          its command runs         startup probe
//	┌──────► creating ─────────────────────► starting ──────────► running ◄────► ready
//	│         ▲  │  └───── no startup probe ──────│──────────────► │ ready probe   │
//	│         ▼  │                                │                │               │
//	│    pulling │ no image,                      └────────┬───────┴───────────────┘
//	│            ▼ no secret…      exit, to be retried     │  exit 0 of a job, or of a
//	├─────── backing_off ◄─────────────────────────────────┤  service not to be restarted
//	│ next try                                             ├──────────► completed
//	│                                                      │  any other final exit
//	│                                                      ├──────────► failed
//	│                                                      │  stop, remove, new spec,
//	│                                                      ▼  timeout, failed probe
//	└─────── pending ◄───────────────────────────────── stopping ───► stopped, or forgotten
//	  new spec, drained, rebooted
//
// and these are all of them, as a test holds against what happens:
//
//	pending     → creating, starting, running, ready, stopping, stopped
//	pulling     → pending, creating, starting, running, ready, stopping, backing_off, stopped, completed, failed
//	creating    → pending, pulling, starting, running, ready, stopping, backing_off, stopped, completed, failed
//	starting    → pending, creating, running, ready, stopping, backing_off, stopped, completed, failed
//	running     → pending, creating, starting, ready, stopping, backing_off, stopped, completed, failed
//	ready       → pending, creating, starting, running, stopping, backing_off, stopped, completed, failed
//	stopping    → pending, creating, starting, running, ready, backing_off, stopped, completed, failed
//	backing_off → pending, creating, starting, running, ready, stopping, stopped
//	stopped     → pending, creating, stopping
//	completed   → pending, creating, starting, running, ready, stopping
//	failed      → pending, creating, starting, running, ready, stopping
//
// Those back to creating are rolling changes: there the instance that runs is kept, and
// its workload is in the state of the one that is made to take its place. The kept one,
// Status.Kept, goes through the same steps for itself; it serves ([View.Serving]) until
// the other is healthy and has taken over, is then stopped as any other, and deleted. It
// is not started again: should it end before, the change goes on without it. kept.go has
// the rules.
//
// A run may be a trial of other versions of the secrets. Its instance is then to be healthy
// in time, is not started again if it ends before, and the run before it may be wanted
// again: in a rolling change the kept instance is then the workload's own once more, in
// whatever state it is, which are the transitions to starting, running and ready from where
// no command runs. Who has begun a trial asks [View.Tried] how it stands, and decides what
// follows. trial.go has the rules.
//
// What was pulling or creating when the agent ended may have run, or have ended, by the
// time that the next one looks.
//
// A workload without a startup probe is running as soon as its command is executed,
// and one without a ready probe is never called ready: nobody has said how to tell.
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
// at a time for an instance, each in a goroutine of its own so that it can be cancelled. An
// instance is recorded before it is created and until it has been deleted, so
// that an agent that starts anew knows of each container; it compares the
// record with containerd (Inspect) before it does anything else, and leaves
// alone what runs as it should.
package supervise
