// Package loghelper stores what containers write, in a process that outlives the
// agent: one for the node, the same executable as the agent's.
//
// # Why a process of its own
//
// A container's output goes through FIFOs that the shim holds open. When nobody
// reads them, the container goes on for 64 KiB and then blocks, so the reader must
// not live and die with the agent. containerd's own way (binary://) is a process for
// each container: 5 ms of each launch and some megabytes each, and it could not be
// told of new values of secrets. One helper costs a launch one small round trip over
// a unix socket, about 60 KiB a container, and serves them all. As it knows every
// value that must not be stored, it redacts, too: no unredacted byte leaves it.
//
// # What happens when
//
// The agent dies, restarts, is upgraded: nothing; the helper reads on.
//
// The helper dies: the agent, which holds a connection to it, starts the next, in
// some milliseconds; the output waits in the FIFOs. When the agent is dead as well,
// the next agent does it. All that a helper needs lies in its directory on memory
// that no disk sees: for each instance what to read and where to store it (spec.json),
// the values (values.json), and a journal that is mapped into its memory (see
// journal). From it the next helper knows which bytes had been taken out of the FIFO
// and not been stored: none is lost, and none is stored twice. The agent, too, has the
// FIFOs open, so that they keep what is in them when the container ends just then. (When
// both are dead and the container ends, the last 64 KiB that it wrote may be lost.)
//
// The helper is upgraded: an agent that finds one of another executable asks it to
// leave, which it does between two batches, and starts its own.
//
// The disk is full: what cannot be stored is dropped, counted, and told of in the
// log once it can be written again. The disk hangs: a container waits for [patience],
// then its output is dropped in the same way, until the disk answers. In this order:
// unredacted output is never stored; no container is blocked for long; what is lost
// is counted.
//
// # Finding your way
//
// [Run] is the process, and [Client] the agent's side (client.go, connection.go), which package
// companion keeps up (upkeep.go): process.go accepts requests and has the instances,
// instance.go stores the output of one, stream.go takes it out of a FIFO and redacts it,
// journal.go makes that survive.
package loghelper
