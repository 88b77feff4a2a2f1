package ocispec

import (
	"bytes"
	"fmt"
	"io"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Accounts are the users and groups that an image, or a running container, knows.
type Accounts struct {
	// Passwd and Group are the contents of /etc/passwd and /etc/group.
	Passwd, Group []byte
}

// Lookup resolves "user", "user:group" and their numeric forms; empty is root.
// A name without a group gets the user's groups, as login would give them.
func (a Accounts) Lookup(name string) (specs.User, error) {
	u, err := user.GetExecUser(name, &user.ExecUser{}, reader(a.Passwd), reader(a.Group))
	if err != nil {
		return specs.User{}, fmt.Errorf("%w; give a number, or a name that is in its /etc/passwd", err)
	}
	out := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	for _, g := range u.Sgids {
		out.AdditionalGids = append(out.AdditionalGids, uint32(g))
	}
	return out, nil
}

func reader(data []byte) io.Reader { return bytes.NewReader(data) }
