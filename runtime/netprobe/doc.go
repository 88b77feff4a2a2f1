// Package netprobe connects to what listens in a container: over TCP, HTTP and gRPC.
//
//	n, err := netprobe.Open(pid)             // the network of a process
//	err = n.Try(ctx, probe, answer)          // nil: the probe has succeeded
//	n.Close()
//
// It connects to the loopback address within the process's own network namespace, so
// that a container is reached that has no other network, and nobody else's server is
// taken for its own. Each try is one connection, which is closed afterwards.
//
// What a server says may hold secrets. None of it is in an error: it goes to the answer,
// for the caller to redact.
package netprobe
