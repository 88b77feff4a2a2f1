package agent

import (
	"fmt"
	"os/user"
	"strconv"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

// reader is an account of the host that can read the environment of a container's
// processes, as they have its user ID (proc_pid_environ(5)); empty for none. The
// superuser, who can read everything, does not count.
func reader(image *runtime.Image, spec *purserv1.LaunchSpec, accounts func(uid string) (*user.User, error)) string {
	uid, err := image.UID(spec)
	if err != nil || uid == 0 {
		return "" // what is wrong with the user is for the runtime to say
	}
	account, err := accounts(strconv.Itoa(int(uid)))
	if err != nil {
		return ""
	}
	return fmt.Sprintf("user ID %d is that of the host's account %s, which can read the secrets in the container's environment under /proc; give the function a user that the host does not have", uid, account.Username)
}

// keepFromReaders finds whom the environment of a container that holds secrets is
// exposed to: a warning, empty for nobody, or an error where the configuration is
// strict.
func (a *Agent) keepFromReaders(image *runtime.Image, spec *purserv1.LaunchSpec) (warned string, err error) {
	exposed := reader(image, spec, user.LookupId)
	if exposed != "" && a.cfg.StrictUIDs {
		return "", fmt.Errorf("%s (strict_uids is set)", exposed)
	}
	return exposed, nil
}
