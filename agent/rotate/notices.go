package rotate

import (
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// secret is one of an environment.
type secret struct{ environment, name string }

// notice is when changes of a secret came that belong together.
type notice struct{ first, last time.Time }

// notices are those of all secrets that changed.
type notices map[secret]notice

// due is when the changes have come to rest, or have been waited for long enough.
func (n notice) due(c Config) time.Time {
	quiet, latest := n.last.Add(c.Quiet), n.first.Add(c.MaxDelay)
	if latest.Before(quiet) {
		return latest
	}
	return quiet
}

// add notes a change.
func (n notices) add(s secret, c Config, now time.Time) {
	old, ok := n[s]
	if !ok || !old.due(c).After(now) {
		old.first = now
	}
	old.last = now
	n[s] = old
}

// due is when the changes of all secrets of a set have come to rest; noticed is when the
// first was noticed that has not been for long, or zero.
func (n notices) due(environment string, set []*purserv1.Pin, c Config) (due, noticed time.Time) {
	for _, p := range set {
		got, ok := n[secret{environment, p.GetSecret()}]
		if !ok {
			continue
		}
		if at := got.due(c); at.After(due) {
			due = at
		}
		if noticed.IsZero() || got.first.Before(noticed) {
			noticed = got.first
		}
	}
	return due, noticed
}
