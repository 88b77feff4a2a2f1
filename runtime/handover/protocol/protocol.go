// Package protocol is what the OCI-runtime wrapper and the agent agree on: names,
// paths below the private directory, and the form of what goes over the socket. It
// imports nothing, as every import costs the wrapper a part of each launch.
//
// The wrapper sends one request on a connection:
//
//	byte 0      version
//	byte 1      OpCreate or OpExec
//	bytes 2-3   length of the container's ID, big endian
//	bytes 4-5   length of the bundle's path, big endian
//	bytes 6-7   0
//	bytes 8-11  length of the document, big endian
//	then the ID, the bundle's path (absolute; empty with OpExec) and the document:
//	the bundle's config.json with OpCreate, the file given by --process with OpExec
//
// The agent answers with
//
//	byte 0     version
//	byte 1     0, or 1 when it refuses
//	bytes 2-3  0
//	bytes 4-7  length of the refusal, big endian
//	then the refusal in words
//
// and with the first byte of an answer that is no refusal comes the descriptor of
// the completed document (SCM_RIGHTS): readable, seekable, and on no file system
// that reaches a disk.
package protocol

// Version of the protocol. A difference means that one of the two has been upgraded
// and the agent not been restarted since; both say so.
const Version = 1

// Patience bounds each side's wait for the other, in seconds.
const Patience = 10

// What a request asks for.
const (
	OpCreate = 1
	OpExec   = 2
)

// Lengths of the fixed parts of a request and of an answer.
const (
	RequestHeader = 12
	AnswerHeader  = 8
)

// MaxDocument bounds what either side reads.
const MaxDocument = 64 << 20

// Annotation carries the token of a create, in the OCI spec. EnvToken carries that
// of an exec, as a variable of its process; both are gone from what the runtime
// gets. A token works once.
const (
	Annotation = "dev.purser.token"
	EnvToken   = "PURSER_OCI_TOKEN"
)

// Below the private directory.
const (
	// Join is a link to the file that a thread of the wrapper writes "0" to before it
	// asks, so that what it becomes is in a cgroup without swap. It may be missing.
	Join = "join"
	// Socket is where the agent listens.
	Socket = "oci.sock"
	// Runtimes holds a directory for each runtime, in which Wrapper is the wrapper
	// that containerd's shim executes and Runtime the OCI runtime it stands for.
	Runtimes = "runtimes"
	Wrapper  = "purser-oci"
	Runtime  = "runtime"
	// Root, in a runtime's directory, is where the runtime keeps its state.
	Root = "root"
	// Inside, in a runtime's directory, is where the runtime is to note the process
	// ID that a command of an exec has in its container, in a file named as that
	// given by --pid-file. It is there only for runtimes that can do so.
	Inside = "inside"
	// Bundle is given to the runtime in place of the container's own bundle. Its
	// config.json leads to the descriptor SpecFD of whoever opens it.
	Bundle = "bundle"
	// Holders has an entry for each container that holds secrets.
	Holders = "holders"
)

// SpecFD is the descriptor under which the completed document is passed on to the
// runtime: high, so that it is nobody's.
const SpecFD = 199

// SpecPath is that descriptor as a path.
const SpecPath = "/proc/self/fd/199"

// TryCommand makes the wrapper do nothing, as the command of a container that a runtime
// is tried with.
const TryCommand = "purser-try"

// HookCommand makes the wrapper stand in for a hook: with the container's own
// bundle, and the hook's path and arguments.
const HookCommand = "purser-hook"
