package dir

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/purserd/purser/api/secretfile"
)

// known are names that others have for what purser has keys for: the docker
// configuration in a secret of Kubernetes, and the one that image.auth_secret wants.
var known = map[string]string{".dockerconfigjson": "DOCKERCONFIGJSON"}

// naming says which files of a directory are keys, and which keys.
type naming struct {
	secretfile.Names
	ignore []string
}

func newNaming(o Options) naming {
	rename := maps.Clone(known)
	maps.Copy(rename, o.Rename)
	return naming{Names: secretfile.Names{Rename: rename, Fit: true}, ignore: o.Ignore}
}

// takes says whether a file is a key of the secret that its directory is. Of one that
// changes at one moment all are: a single program writes there.
func (n naming) takes(file string, atomic bool) bool {
	_, named := n.Rename[file]
	switch {
	case slices.Contains(n.ignore, file):
		return false
	case named:
		return true
	case atomic:
		return !strings.HasPrefix(file, "..")
	default:
		return !leftAlone(file)
	}
}

// keyRule says in words what can be a key.
var keyRule = fmt.Sprintf("it may have letters, digits, '.', '_' and '-', %d at most, or is to be given a key with rename", secretfile.MaxKey)
