package agent

import (
	"regexp"

	"github.com/purserd/purser/inject/audit"
)

// Names as the API has them. Anything else that a request has in their place is kept
// out of the trail, as it may be a value.
var (
	nameText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	keyText  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,255}$`)
	idText   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,128}$`)
)

// named is a secret by a name and keys that come from a request.
func named(name string, keys, removed []string) audit.Secret {
	s := audit.Secret{Name: AuditName(name)}
	for _, key := range keys {
		s.Keys = appendKey(s.Keys, key, &s.More)
	}
	for _, key := range removed {
		s.Removed = appendKey(s.Removed, key, &s.More)
	}
	return s
}

func appendKey(keys []string, key string, more *int) []string {
	if !keyText.MatchString(key) {
		*more++
		return keys
	}
	return append(keys, key)
}

// AuditName returns a name out of a request if it is one.
func AuditName(name string) string {
	if !nameText.MatchString(name) {
		return ""
	}
	return name
}

// AuditID returns a workload's ID out of a request if it is one.
func AuditID(id string) string {
	if !idText.MatchString(id) {
		return ""
	}
	return id
}
