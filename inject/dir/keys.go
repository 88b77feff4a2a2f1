package dir

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/purserd/purser/inject/store"
)

// known are names that others have for what purser has keys for: the docker
// configuration in a secret of Kubernetes, and the one that image.auth_secret wants.
var known = map[string]string{".dockerconfigjson": "DOCKERCONFIGJSON"}

// naming says which files of a directory are keys, and which keys.
type naming struct {
	rename map[string]string
	ignore []string
}

func newNaming(o Options) naming {
	rename := maps.Clone(known)
	maps.Copy(rename, o.Rename)
	return naming{rename: rename, ignore: o.Ignore}
}

// takes says whether a file is a key of the secret that its directory is. Of one that
// changes at one moment all are: a single program writes there.
func (n naming) takes(file string, atomic bool) bool {
	_, named := n.rename[file]
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

// key is the key that a name stands for: the one that it was given, or the name with _ for
// what a key cannot have. There is none for a name that Kubernetes would not have either.
func (n naming) key(name string) (key string, ok bool) {
	if key, ok := n.rename[name]; ok {
		return key, true
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !inKey(r) && r != '.' && r != '-' }) {
		return "", false
	}
	key = strings.NewReplacer(".", "_", "-", "_").Replace(name)
	if key[0] >= '0' && key[0] <= '9' {
		key = "_" + key
	}
	return key, store.ValidKey(key)
}

func inKey(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
}

// keyRule says in words what can be a key.
var keyRule = fmt.Sprintf("it may have letters, digits, '.', '_' and '-', %d at most, or is to be given a key with rename", store.MaxKey)
