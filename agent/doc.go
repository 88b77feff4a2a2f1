// Package agent is the node's agent: it takes launch specs in, and keeps what
// they ask for running.
//
// A launch goes one way: [Agent.Launch] checks the spec, resolves its secrets
// to versions (the pins) and persists both; the workload's supervisor (package
// supervise) then has a container made by resolving the pins to values, merging
// them with the environment, and handing the result to package runtime.
//
//	agent.go      what an agent consists of; Run
//	launch.go     specs in: plan, then commit
//	admission.go  is there room for what a launch asks for
//	lifecycle.go  start, stop, remove, restart; wait.go
//	drain.go      the node's drain, and what it makes of what is wanted
//	container.go  between a supervisor and package runtime
//	probe.go      a container's probes; hook.go: commands of a spec; answer.go: what they said
//	reconcile.go  containers that no record explains, at the start; gate.go, loss.go
//	ports.go      which instance a workload's ports lead to; package publish; forwarder.go
//	rotator.go    moves workloads to new versions of their secrets, as package rotate plans:
//	              rotationfacts.go, trialresult.go: what there is; rotation.go: what is done;
//	              delivery.go: other files in an instance that goes on; trial.go: the record
//	latest.go     which versions a launch gets; holds.go, stay.go, secretstate.go
//	sweep.go      what containers have left on the node
//	view.go       workloads as the API shows them; node.go, health.go: the node
//	sources.go    what secrets come from besides the API
//	apps.go, secrets.go, images.go, logs.go, events.go, measure.go
//	audit.go      what is recorded, and by whom; call.go, auditnames.go, audittrail.go
//
// The API itself is package server, a thin layer over this one's methods. Two
// halves of a workload's record have one writer each: what is wanted is
// written by the methods here, under the agent's lock; what is, by the
// supervisor.
package agent
