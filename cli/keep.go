package cli

import "golang.org/x/sys/unix"

// keepOffDisks does what any user may for a process that reads values of secrets: it
// makes no core, and is not swapped where that is allowed.
func keepOffDisks() {
	// With a limit of 0 a handler behind a pipe would still get the core.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}
