package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/purserd/purser/api/launchspec"
	"github.com/purserd/purser/client"
)

// Exit statuses of purser's own; those of functions are passed on.
const (
	exitFailed    = 1
	exitMisused   = 2
	exitTimedOut  = 124 // run, wait: the job's timeout ended it, and it exited with 0; as timeout(1)
	exitNotRun    = 125 // run, exec, attach, wait: purser failed, not the function
	exitSignalled = 128 // plus the signal's number
)

// exitError makes the program exit with a given status. Without an err
// nothing is said: the function has said it.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// hinted is an error with what to do about it.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

func hint(err error, format string, args ...any) error {
	return &hinted{err: err, hint: fmt.Sprintf(format, args...)}
}

// misuse is the error for a wrong command line.
func misuse(cmd *cobra.Command, err error) error {
	code := exitMisused
	if standsIn(cmd) {
		code = exitNotRun
	}
	return &exitError{code: code, err: hint(err, "see %s --help", cmd.CommandPath())}
}

// standsInMark annotates the commands whose exit status is a function's.
const standsInMark = "purser/stands-in"

func standsIn(cmd *cobra.Command) bool {
	_, marked := cmd.Annotations[standsInMark]
	return marked
}

// notRun marks an error of a command that stands in for a function, so that
// its exit status is not mistaken for the function's.
func notRun(err error) error {
	var exit *exitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	return &exitError{code: exitNotRun, err: err}
}

// report prints err as one message and returns the exit status for it.
func (s *session) report(err error) int {
	if err == nil {
		return 0
	}
	code := exitFailed
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
		if exit.err == nil {
			return code
		}
	}
	for _, line := range describe(err, s.host) {
		fmt.Fprintln(s.err, line)
	}
	return code
}

// describe is what to say about err: a line that starts with the program's
// name, then details and a hint, indented.
func describe(err error, host string) []string {
	var problems launchspec.Problems
	if errors.As(err, &problems) {
		return describeProblems(problems)
	}
	lines := []string{"purser: " + strings.ReplaceAll(headline(err), "\n", "\n  ")}
	if tip := advice(err, host); tip != "" {
		lines = append(lines, "  "+tip)
	}
	return lines
}

func describeProblems(problems launchspec.Problems) []string {
	noun := "mistakes"
	if len(problems) == 1 {
		noun = "mistake"
	}
	lines := []string{fmt.Sprintf("purser: the file has %d %s:", len(problems), noun)}
	for _, line := range strings.Split(problems.Error(), "\n") {
		lines = append(lines, "  "+line)
	}
	return lines
}

// headline is err's text without the codes that only programs need.
func headline(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	text := err.Error()
	var remote *connect.Error
	if !errors.As(err, &remote) {
		return text
	}
	if broken(remote) {
		return "the connection to the agent has broken: it has ended, or is being restarted"
	}
	if foreign(remote) {
		return "what answers there is not purser's API: " + remote.Message()
	}
	message := remote.Message()
	if fields := violations(err); len(fields) == 1 {
		message = fields[0]
	} else if len(fields) > 1 {
		message = fmt.Sprintf("%d fields are not valid:\n%s", len(fields), strings.Join(fields, "\n"))
	}
	if message == "" {
		message = strings.ReplaceAll(remote.Code().String(), "_", " ")
	}
	return strings.Replace(text, remote.Error(), message, 1)
}

// broken tells a call that ended in the middle, as those of an agent that dies do.
func broken(remote *connect.Error) bool {
	if connect.IsWireError(remote) || client.Unreachable(remote) {
		return false
	}
	return errors.Is(remote, io.EOF) || errors.Is(remote, io.ErrUnexpectedEOF) || errors.Is(remote, syscall.ECONNRESET) || errors.Is(remote, syscall.EPIPE) ||
		strings.Contains(remote.Message(), "unexpected EOF")
}

// unsure adds to an error of a call that changes something, and broke, how to see whether
// that was done.
func unsure(err error, look string) error {
	if remote := (*connect.Error)(nil); !errors.As(err, &remote) || !broken(remote) {
		return err
	}
	return hint(err, "whether it was done is not known: see %s", look)
}

// lookAt is the command that shows what was done to a secret.
func (s *session) lookAt(secret string) string {
	return fmt.Sprintf("purser secret versions -E %s %s", s.environment, secret)
}

// foreign tells an answer of another server from one of an agent: it is no
// Connect error, or no HTTP/2 at all.
func foreign(remote *connect.Error) bool {
	if connect.IsWireError(remote) || client.Unreachable(remote) {
		return false
	}
	return remote.Code() == connect.CodeUnimplemented || strings.Contains(remote.Message(), "looked like an HTTP/1.1 header")
}

// violations are the fields that the agent refused, one text for each. They say
// all that the error's message does.
func violations(err error) []string {
	var remote *connect.Error
	if !errors.As(err, &remote) {
		return nil
	}
	var texts []string
	for _, detail := range remote.Details() {
		value, unknown := detail.Value()
		if unknown != nil {
			continue
		}
		bad, ok := value.(*errdetails.BadRequest)
		if !ok {
			continue
		}
		for _, v := range bad.GetFieldViolations() {
			texts = append(texts, violation(err, v))
		}
	}
	return texts
}

func violation(err error, v *errdetails.BadRequest_FieldViolation) string {
	field := v.GetField()
	if r := (*renamed)(nil); errors.As(err, &r) {
		field = r.name(field)
	}
	if field == "" {
		return v.GetDescription()
	}
	return field + ": " + v.GetDescription()
}

// advice is what to do about err; empty when nothing is known.
func advice(err error, host string) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	remote := (*connect.Error)(nil)
	if errors.As(err, &remote) && broken(remote) {
		return "try again when it is back; what was to be changed may have been or not"
	}
	if errors.As(err, &remote) && foreign(remote) {
		return "check --host and PURSER_HOST: " + host + " may be a node's metrics, or another program"
	}
	if !client.Unreachable(err) && errors.Is(err, fs.ErrPermission) {
		return "use sudo, or have it made readable"
	}
	if !client.Unreachable(err) {
		return ""
	}
	if errors.Is(err, fs.ErrPermission) {
		return "only root may use the socket: use sudo, or be given access to it"
	}
	if host == client.DefaultHost {
		return "start a node with `sudo purser dev` and set PURSER_HOST as it says, or start the daemon with `sudo purser agent`"
	}
	return "check --host and PURSER_HOST, and that `purser dev` or `purser agent` runs there"
}
