package secretfile

import "strings"

// Names makes keys of names. The zero value takes those that are keys, and no others.
type Names struct {
	// Rename has the keys of some.
	Rename map[string]string
	// Fit makes keys of others, too, with _ for what a key cannot have.
	Fit bool
}

// Key is the key that a name stands for. There is none for a name that Kubernetes would
// not have for one either.
func (n Names) Key(name string) (key string, ok bool) {
	if key, ok := n.Rename[name]; ok {
		return key, true
	}
	if n.Fit && name != "" && !strings.ContainsFunc(name, unfit) {
		name = strings.NewReplacer(".", "_", "-", "_").Replace(name)
		if name[0] >= '0' && name[0] <= '9' {
			name = "_" + name
		}
	}
	return name, IsKey(name)
}

// unfit says what cannot be in a name of which a key is made.
func unfit(r rune) bool {
	return r != '_' && r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}
