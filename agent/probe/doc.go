// Package probe asks a container's probes and says what their answers amount to.
//
//	judge.go   what a row of answers amounts to: pure
//	prober.go  when which probe is asked: startup first, then ready and live
//	asker.go   one probe's tries, one at a time
//
// A [Target] makes the single tries; package agent has the one that reaches into
// containers. A try has one of three outcomes: it succeeds, it fails, or it was not
// made ([ErrNotMade]: containerd is away, the container has just ended). The last says
// nothing about the container and counts for nothing, so that no healthy container is
// ended for what is wrong elsewhere.
//
// A try that hangs holds up nobody. It has failed when its time is over, at the latest
// some seconds later, and again at each period while it hangs on; no other try
// of the same probe is begun beside it. Before that counts, the target is asked whether
// it can reach the container: a containerd that hangs has each try hang.
package probe
