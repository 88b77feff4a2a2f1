// Package server is the agent's API: the services of purser.v1 over package
// agent, and the process around both.
//
// [Run] is the whole daemon: it opens the node's state, serves the API on its
// unix socket and the metrics on their address, and drives the workloads until
// it is told to end. Handlers translate and nothing more; what a request means
// is decided in package agent, and which code an error gets in errors.go.
package server
