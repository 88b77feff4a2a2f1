// Package forward serves the ports of the node that lead to containers, in a process
// that outlives the agent: one for the node, the same executable as the agent's.
//
// # Why a process of its own
//
// Connections to a function must not end with the agent, nor with the instance's
// successor being pointed to. NAT in the kernel would do the first, but neither hold a
// connection until there is somebody to take it, nor pass it to another instance when
// the first one refuses it. Sockets that systemd keeps outlive a process that accepts,
// and what that has accepted does not.
//
// # Words
//
// An owner (environment/id) claims ports and is pointed to targets: instances, with their
// addresses. All connections to its ports go to the targets there are, in turn. [Client.Point]
// returns once no later connection can go to what is no target any more: the instance may be
// stopped then. (It may still have some that it has not accepted; it should finish these.)
// Until there is a target that can be connected to, a connection is held.
//
// # What happens when
//
// The agent dies: nothing. The next one learns by [Client.List] what is claimed.
//
// The forwarder is killed: what it had accepted is lost. The client has duplicates of its
// listening sockets, in whose backlog clients wait, starts another one and hands them
// over (mirror.go). When both are killed at once, the backlog is lost as well, and ports are
// refused until they are claimed again.
//
// The forwarder is of another executable than the agent: the one that is started takes
// over the listening sockets, held connections and UDP sessions from the one that runs,
// which then serves its connections until they end (takeover.go). Nothing is lost.
//
// # Finding your way
//
// [Run] is the process, and [Client] the agent's side (client.go, connection.go, mirror.go),
// which package companion keeps up (upkeep.go); message.go is what they say. process.go begins
// and ends, takeover.go does with another one, service.go answers, claim.go binds ports, all or
// nothing, and taken.go finds out who has one.
//
// An owner (owner.go) has sockets (socket.go) and targets (targets.go). tcp.go finds a
// target for a connection, relay.go passes on how its ends end, and pump.go what they
// say, as fast as congestion.go lets it; udp.go and session.go do for datagrams. counters.go is what the agent sees of it.
package forward
