package cli

import (
	"errors"
	"strings"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// passStatus is the exit status for how a function or a command ended, with
// the reason when it never started.
func passStatus(exit *purserv1.Exit) error {
	code := int(exit.GetCode())
	switch {
	case unmade(exit):
		return notRun(errors.New(orDash(exit.GetReason())))
	case code == 0:
		return nil
	case exit.GetStartedAt() == nil && exit.GetReason() != "":
		return &exitError{code: code, err: errors.New(exit.GetReason())}
	default:
		return &exitError{code: code}
	}
}

// endStatus is the exit status for a workload that has an exit.
func endStatus(w *purserv1.Workload) error {
	if timedOutWell(w) {
		return &exitError{code: exitTimedOut}
	}
	return passStatus(w.GetLastExit())
}

// unmade tells an exit of which no command knows: the container could not be
// made, for which the agent has the code of a signal 0. A caller would take it
// for the function's.
func unmade(exit *purserv1.Exit) bool {
	return exit.GetCode() == exitSignalled && exit.GetStartedAt() == nil
}

// timedOutWell tells a job that failed although it exited with 0: its timeout
// had ended it, and it used its grace.
func timedOutWell(w *purserv1.Workload) bool {
	return w.GetState() == "failed" && w.GetLastExit() != nil && w.GetLastExit().GetCode() == 0
}

// plain tells a reason that says no more than the exit status does.
func plain(reason string) bool {
	return reason == "" || strings.HasPrefix(reason, "exited with status ")
}
