// Package dev runs a whole purser node in the foreground, under one directory:
// a containerd of its own and an agent, both as children of this process.
//
// [Run] does it all. Under Options.Dir it keeps
//
//	lock                     held while it runs; a second start is refused
//	containerd.toml          written on every start, as is
//	agent.toml
//	containerd/              images, snapshots and containers' records
//	state/, run/             the agent's: secrets, workloads, logs
//	log/containerd.log       what the two write; of the run before: .old
//	log/agent.log
//	containerd.sock          sockets; where the directory's name is too long for
//	purser.sock              one, links to those in /run/purser-dev-HASH
//
// The children die with this process (PR_SET_PDEATHSIG), even when it is
// killed; containers then live on, and the next start on the directory adopts
// them. When it is asked to end, the agent first stops the workloads, which
// are wanted still, and start again the next time; then [sweep] makes sure
// that no process, mount or cgroup of the node is left.
package dev
