package runtime

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"
)

var (
	// ErrUnavailable is wrapped by errors of calls that could not reach
	// containerd. Trying again later may work.
	ErrUnavailable = errors.New("containerd is unavailable")
	// ErrNotFound is wrapped when there is no such container, or nothing runs in it.
	ErrNotFound = errors.New("no such container")
	// ErrImageNotFound is wrapped when the node has no such image.
	ErrImageNotFound = errors.New("no such image on this node")
	// ErrLost is wrapped by Wait when the container is gone and nobody knows
	// how it ended: its shim died.
	ErrLost = errors.New("the container was lost")
)

// StartError says that the command itself could not be executed: the spec or
// the image is wrong, and trying again will not help.
type StartError struct {
	// Code is the exit status that a shell gives: 126 not executable, 127 not
	// found, 128 any other reason.
	Code uint32
	// Message is the OCI runtime's, without what containerd and runc put around it.
	Message string
}

func (e *StartError) Error() string { return e.Message }

// SpecError says that a spec and its image do not go together, as when the
// image lacks the user that the spec names. Trying again with the same two will
// not help.
type SpecError struct{ Err error }

func (e *SpecError) Error() string { return e.Err.Error() }
func (e *SpecError) Unwrap() error { return e.Err }

// wrap says what was being done and makes containerd's errors this package's.
func (r *Runtime) wrap(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	doing = fmt.Sprintf(doing, args...)
	err = native(err)
	switch {
	case isOurs(err):
	case errdefs.IsUnavailable(err):
		return fmt.Errorf("%s: %w at %s: %w", doing, ErrUnavailable, r.cfg.Address, err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%s: %w: %w", doing, ErrNotFound, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func isOurs(err error) bool {
	for _, ours := range []error{ErrUnavailable, ErrNotFound, ErrImageNotFound, ErrLost} {
		if errors.Is(err, ours) {
			return true
		}
	}
	return false
}

// native turns an error that came over gRPC into what errors.Is understands,
// and leaves all others as they are.
func native(err error) error {
	if err == nil || isOurs(err) {
		return err
	}
	if _, ok := status.FromError(err); ok {
		return errgrpc.ToNative(err)
	}
	return err
}

func isNotFound(err error) bool { return errdefs.IsNotFound(native(err)) }

// shimDied tells by containerd's words that the connection to a shim has ended under a
// call, for which it has no code.
func shimDied(err error) bool {
	return err != nil && strings.Contains(err.Error(), "ttrpc: closed")
}

// notRunning makes "wrong state" the same as "not there", as which of the two
// containerd says of a process that ends depends on the moment.
func notRunning(err error) error {
	if err := native(err); errdefs.IsFailedPrecondition(err) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// startError finds out whether the OCI runtime refused the command, which is nil
// where it is not known. Runtimes report it in words only, so words are what is looked
// at; the texts are runc's, crun's and runsc's. It returns nil for every other error.
func startError(err error, command []string) *StartError {
	text := native(err).Error()
	if !strings.Contains(text, "OCI runtime") {
		return nil
	}
	message := runtimeMessage(text)
	if message == stateLost {
		return nil
	}
	if !isExec(message) {
		return &StartError{Code: 128, Message: message}
	}
	refused := &StartError{Code: execCode(message), Message: message}
	if len(command) > 0 {
		refused.of(command[0])
	}
	return refused
}

// stateLost is what runc says of a container that it does not know: a command could not
// be executed for want of its state, and nobody has refused it.
const stateLost = "container does not exist"

// of says which program was refused. crun does not say what it could not open.
func (e *StartError) of(program string) {
	if program == "" {
		e.Code = 127
	}
	if !strings.Contains(e.Message, program) || strings.HasPrefix(e.Message, "open executable") {
		e.Message = fmt.Sprintf("exec: %q: %s", program, e.Message)
	}
}

// hookWords are those of runc, crun and runsc for a hook that has failed.
var hookWords = regexp.MustCompile(`(error|failure) (running|executing) (\w+ )?hook\b|timeout expired for `)

// ofHook tells a hook that has failed from what is wrong with the spec or the image. All
// hooks are those of the node's devices, which may be well again later.
func (e *StartError) ofHook() bool { return !isExec(e.Message) && hookWords.MatchString(e.Message) }

// execCode is the exit status that a shell gives for what a runtime says.
func execCode(message string) uint32 {
	message = strings.ToLower(message)
	for _, c := range []struct {
		text string
		code uint32
	}{
		{`executable "" in`, 127}, // runsc, of no name at all
		{"executable file not found", 127},
		{"no such file or directory", 127},
		{"permission denied", 126},
		{"operation not permitted", 126},
		{"exec format error", 126},
		{"is a directory", 126},
		{"not a directory", 127},
	} {
		if strings.Contains(message, c.text) {
			return c.code
		}
	}
	return 128
}

// isExec tells an error of the command from one of a mount or a hook, which
// may say "permission denied" just as well.
func isExec(message string) bool {
	for _, start := range []string{"exec", "open executable", "failed to load /", "error finding executable"} {
		if strings.HasPrefix(message, start) {
			return true
		}
	}
	return strings.Contains(message, "executable file")
}

// wrapping is what containerd, runc and runsc put before what they were told.
var wrapping = []string{
	"create failed:", "start failed:", "exec failed:", "container_linux.go:",
	"runc create failed:", "runc did not terminate successfully:",
	"unable to start container process:", "error during container init:",
	"starting container:", "starting root container:", "starting sandbox:", "creating process:",
}

// runtimeMessage takes the wrapping off "failed to create shim task: OCI
// runtime create failed: runc create failed: unable to start container
// process: exec: …: unknown".
func runtimeMessage(text string) string {
	if _, rest, ok := strings.Cut(text, "OCI runtime"); ok {
		text = rest
	}
	for before := ""; before != text; {
		before = text
		for _, prefix := range wrapping {
			text = strings.TrimSpace(strings.TrimPrefix(text, prefix))
		}
	}
	return strings.TrimSuffix(text, ": unknown")
}
