package runtime

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What the runtimes say of a command that cannot be executed has the status of a shell,
// and the command's name.
func TestStartError(t *testing.T) {
	const crun, runsc = "OCI runtime create failed: ", "OCI runtime start failed: starting container: starting root container: starting sandbox: "
	for _, c := range []struct {
		text, command string
		code          uint32
		want          string
	}{
		{crun + "open executable: Permission denied: unknown", "/etc/passwd", 126, `exec: "/etc/passwd": open executable: Permission denied`},
		{crun + "open executable: Operation not permitted: unknown", "/bin", 126, `exec: "/bin": open executable: Operation not permitted`},
		{crun + "open executable: Operation not permitted: unknown", "", 127, `exec: "": open executable: Operation not permitted`},
		{runsc + `error finding executable "nope" in PATH [/bin]: no such file or directory: unknown`, "nope", 127, `error finding executable "nope" in PATH [/bin]: no such file or directory`},
		{runsc + "creating process: failed to load /etc/passwd: permission denied: unknown", "/etc/passwd", 126, "failed to load /etc/passwd: permission denied"},
		{crun + "mount `/x`: Permission denied: unknown", "/x", 128, "mount `/x`: Permission denied"},
	} {
		got := startError(errors.New("failed to create shim task: "+c.text), []string{c.command})
		if got == nil || got.Code != c.code || got.Message != c.want {
			t.Errorf("%s: %+v", c.text, got)
		}
	}
	if got := startError(errors.New("OCI runtime exec failed: exec failed: container does not exist: unknown"), nil); got != nil {
		t.Errorf("what the OCI runtime does not know: %+v", got)
	}
	if got := startError(errors.New("no such file or directory"), nil); got != nil {
		t.Errorf("not the OCI runtime's: %+v", got)
	}
}

// A command whose container's shim dies says so.
func TestShimDied(t *testing.T) {
	err := (&Runtime{}).wrapExec(status.Error(codes.Unknown, "ttrpc: closed: unknown"), "one")
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "its shim") {
		t.Error(err)
	}
	if err := (&Runtime{}).wrapExec(errors.New("another"), "one"); errors.Is(err, ErrLost) {
		t.Error(err)
	}
}
