// Package companion keeps a process of purser's own beside the agent that outlives it: the
// log helper (runtime/loghelper) and the port forwarder (runtime/forward) are companions.
//
// A companion is the agent's own executable under another command, one for a directory. It
// serves on a socket there, says by its standard error in the directory what it dies of, and
// ends by itself when it has nothing to do and no agent has come for a while.
//
// # Whose part is what
//
// This package finds a companion, starts it, starts the next one when it has ended, kills one
// that hangs, and sees to it that one of another executable gives way after an upgrade. The
// companion's own package has the protocol, in a [Link], the state, and what is handed over:
// a companion either leaves its directory to the next one ([Config.Leave]) or has the
// next one take over from it while both run.
//
// # What happens when
//
// The agent ends, at any instant: the companion goes on, and the next agent finds it by its
// socket. One that the agent had just started serves all the same; an agent that starts
// another one meanwhile goes on with that which serves first.
//
// The companion ends: [Keeper.Do] waits for the next one. If a connection alone has
// broken, the same process is found again, and nobody is told of a restart.
//
// The companion hangs: it has [Options.Heartbeat] times [Config.MissedBeats] to answer, and is
// killed then, by a descriptor of the process, as its PID may be another's.
//
// The executable was replaced: what counts is the file that lies at the path when a companion
// is looked for, so an agent that is older than it has the new one started.
//
// A socket of one that has died is replaced by the next one, which has the lock of the
// directory; the lock is the kernel's, and ends with the process.
//
// An executable that does not know a companion's command would start itself for ever: what
// was started as a companion starts none (see [Main]).
//
// # Finding your way
//
// The agent's side is [Keeper]: keeper.go is how it is used, upkeep.go what it does, link.go a
// connection, spawn.go a start. The companion's is [Main] and [Ready] (main.go), [Lock] and
// [Service]. [Shared] is memory of both, and [Executable] tells versions apart.
package companion
