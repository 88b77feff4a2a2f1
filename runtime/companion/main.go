package companion

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// variable, in the environment, is what a process was started as: a companion's name.
const variable = "PURSER_COMPANION"

// readyFile is the descriptor of the pipe by which an agent waits for a companion.
const readyFile = 3

// Main is for executables of which the agent's side is a part and that are not purser,
// such as those of tests: it runs a companion, and ends the process, if it was started as
// this one.
func Main(command string, run func(dir string, flags []string) error) {
	if os.Getenv(variable) == "" || len(os.Args) < 4 || os.Args[1] != command || os.Args[2] != "--dir" {
		return
	}
	if err := run(os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Ready tells the agent that started this process that it serves. Without one, as when a
// companion is started by hand, that descriptor is something else.
func Ready() {
	var is unix.Stat_t
	if err := unix.Fstat(readyFile, &is); err != nil || is.Mode&unix.S_IFMT != unix.S_IFIFO {
		return
	}
	agent := os.NewFile(readyFile, "ready")
	defer agent.Close()
	_, _ = agent.Write([]byte{1}) // one that has gone finds us by the socket
}
