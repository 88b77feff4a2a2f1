// Package rotate decides how workloads move to new versions of their secrets.
//
// What is known comes in as facts: a [Workload] for each that uses secrets, with the
// [Move] that is due to it, and with how its [Trial] stands if it is trying other versions
// already. [Planner.Plan], which has neither goroutine nor clock, makes of them the
// [Action]s that are due now, how each workload stands ([Standing]), and when to look
// again. Whoever carries them out asks again after each change, so that nothing depends on
// what was decided earlier: an agent that starts anew plans from what is on record.
//
//	              quiet, window           healthy
//	changed keys ───────────────► canary ────────► followers, max_parallel at a time,
//	                                │                  │  each after a part of its splay
//	                                │ failed twice     │ failed twice
//	                                ▼                  ▼
//	                 its versions are quarantined,   it goes back, and those that have
//	                 everyone stays                  not moved yet are held
//
// Workloads of an app of which the same keys change are a group. One goes first, as its
// canary: a healthy one, whose failure tells of the versions. Where none is healthy any
// goes; its failure then tells of nothing but itself.
//
// What was learnt is in the [Book], which is persisted: verdicts on sets of versions (for
// an environment, an app or a workload), proofs that a set turned out well, what is held
// what is in a hurry, and who stays where an app was rolled back to. [Book.Choose] says which
// versions of secrets are the latest by it.
//
// plan.go frames a plan, judge.go decides what follows from trials, and lead.go who begins
// one when.
package rotate
