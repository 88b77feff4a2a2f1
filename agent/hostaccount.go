package agent

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

// reader is an account of the host that can read the environment of a container's
// processes, as they have its user ID (proc_pid_environ(5)); empty for none. The
// superuser, who can read everything, does not count.
func reader(uid uint32, accounts func(uid string) (*user.User, error)) (string, error) {
	if uid == 0 {
		return "", nil
	}
	account, err := accounts(strconv.Itoa(int(uid)))
	var unknown user.UnknownUserIdError
	if errors.As(err, &unknown) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for an account of the host with user ID %d: %w", uid, err)
	}
	return fmt.Sprintf("user ID %d is that of the host's account %s, which can read the secrets in the environment of the container's processes under /proc; use a user that the host does not have", uid, account.Username), nil
}

// keepFromReaders finds whom the environment of a process that holds secrets is
// exposed to: a warning, empty for nobody, or an error where the configuration is
// strict.
func (a *Agent) keepFromReaders(uid uint32) (warned string, err error) {
	exposed, err := reader(uid, user.LookupId)
	switch {
	case err != nil && !a.cfg.StrictUIDs:
		return "", nil
	case exposed != "" && a.cfg.StrictUIDs:
		return "", fmt.Errorf("%s (strict_uids is set)", exposed)
	}
	return exposed, err
}

// keepImageFromReaders is the same for what an image and a spec make. What is wrong
// with their user is for the runtime to say.
func (a *Agent) keepImageFromReaders(image *runtime.Image, spec *purserv1.LaunchSpec) (warned string, err error) {
	uid, err := image.UID(spec)
	if err != nil {
		return "", nil
	}
	return a.keepFromReaders(uid)
}
