package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	protocol "github.com/docker/docker-credential-helpers/credentials"
)

// tokenUsername is the name under which a helper gives an identity token.
const tokenUsername = "<token>"

// helperOf is the credential helper that a configuration names for a registry; empty
// for none.
func helperOf(file *configfile.ConfigFile, name string) string {
	if helper, ok := file.CredentialHelpers[name]; ok {
		return helper
	}
	return file.CredentialsStore
}

// askHelper runs a credential helper, which ends with ctx or after a while, and
// returns when it has ended. Docker's library runs one to its own end.
func askHelper(ctx context.Context, helper, name string, patience time.Duration) (username, password string, err error) {
	program := "docker-credential-" + helper
	late := fmt.Errorf("%s has not answered for %s", program, patience)
	ctx, cancel := context.WithTimeoutCause(ctx, patience, late)
	defer cancel()
	answer, err := runHelper(ctx, program, name)
	switch {
	case ctx.Err() != nil:
		return "", "", context.Cause(ctx)
	case err != nil && protocol.IsErrCredentialsNotFoundMessage(string(answer)):
		return "", "", nil
	case err != nil:
		return "", "", fmt.Errorf("%s: %w%s", program, err, complaint(answer))
	}
	var got protocol.Credentials
	// Its error may quote the answer.
	if json.Unmarshal(answer, &got) != nil {
		return "", "", fmt.Errorf("%s gives an answer that is no JSON", program)
	}
	if got.Username == tokenUsername {
		return "", got.Secret, nil
	}
	return got.Username, got.Secret, nil
}

// runHelper returns what a helper writes. With ctx it ends, and what it has started.
func runHelper(ctx context.Context, program, name string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, protocol.ActionGet)
	cmd.Stdin = strings.NewReader(name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// What has left its process group may keep its output open.
	cmd.WaitDelay = time.Second
	answer, err := cmd.Output()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended well
	}
	return answer, err
}

// complaint is what a helper that failed says, by custom on stdout: never something
// that may be credentials.
func complaint(answer []byte) string {
	text, _, _ := bytes.Cut(bytes.TrimSpace(answer), []byte("\n"))
	if len(text) == 0 || len(text) > 200 || bytes.ContainsAny(answer, `{"`) {
		return ""
	}
	return fmt.Sprintf(", saying %q", text)
}
