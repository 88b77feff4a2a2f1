package rotate

import (
	"slices"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Choose picks the latest version of each secret of an environment: the newest that is
// neither held nor quarantined. versions are those there are, newest first. Of a set that
// is quarantined as a whole every member is an earlier one. A secret of which nothing is
// left to choose has no version in the answer.
func (b Book) Choose(environment string, versions map[string][]uint32) map[string]uint32 {
	left := make(map[string][]uint32, len(versions))
	for secret, all := range versions {
		left[secret] = slices.DeleteFunc(slices.Clone(all), func(v uint32) bool {
			return b.Held(environment, secret, v) || b.Quarantine(environment, secret, v) != nil
		})
	}
	for {
		v := b.Verdict(Who{Environment: environment}, firsts(left))
		if v == nil {
			break
		}
		for _, p := range v.GetSet() {
			left[p.GetSecret()] = left[p.GetSecret()][1:]
		}
	}
	chosen := make(map[string]uint32, len(left))
	for _, p := range firsts(left) {
		chosen[p.GetSecret()] = p.GetVersion()
	}
	return chosen
}

// firsts are the first of the versions of each secret.
func firsts(left map[string][]uint32) []*purserv1.Pin {
	var pins []*purserv1.Pin
	for secret, versions := range left {
		if len(versions) > 0 {
			pins = append(pins, &purserv1.Pin{Secret: secret, Version: versions[0]})
		}
	}
	return pins
}
