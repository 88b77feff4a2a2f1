package private

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// LockProcess keeps what this process holds, values of secrets among it, from a
// disk: no core of it is dumped, and it is not swapped. Where that cannot be had,
// it is an error while there is swap space, unless allowSwap.
func LockProcess(allowSwap bool) error {
	if err := NoCore(); err != nil {
		return err
	}
	// Whoever may lift the limit does: it would refuse every further allocation.
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	// Pages are locked when they are first used.
	err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	if err == nil || allowSwap || !swapOn() {
		return nil
	}
	return fmt.Errorf("the agent's memory, which holds secrets, could be swapped to a disk, and cannot be locked (%w): give it CAP_IPC_LOCK, switch swap off, or set allow_swap in the configuration", err)
}

// NoCore limits the core to one byte: with a limit of 0 a handler behind a pipe
// would still get the core, with 1 the kernel makes none. A hard limit of 0 stays.
func NoCore() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("reading the limit of core dumps: %w", err)
	}
	limit.Max = min(limit.Max, 1)
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("limiting core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	return nil
}

// swapOn says whether there is swap space; when nobody can tell, there is.
func swapOn() bool {
	table, err := os.ReadFile("/proc/swaps")
	return err != nil || bytes.Count(table, []byte("\n")) > 1
}
