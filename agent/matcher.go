package agent

import (
	"sync"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/redact"
)

// matcherKept is how long a matcher is kept after the last command that needed it:
// probes and scripts come again within that, and a plaintext that nobody needs does
// not stay.
const matcherKept = time.Minute

// lastMatcher keeps what finds a workload's values in output, as making it takes up
// to seconds for large ones. Its zero value has none.
type lastMatcher struct {
	mu      sync.Mutex
	values  inject.Redactions
	matcher *redact.Matcher
	drop    *time.Timer
}

// of returns the matcher for some values. Who asks for one that is being made waits
// for it.
func (l *lastMatcher) of(values inject.Redactions) *redact.Matcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.matcher == nil || !l.values.Equal(values) {
		l.values, l.matcher = values, values.Matcher()
	}
	if l.drop == nil {
		l.drop = time.AfterFunc(matcherKept, l.forget)
	}
	l.drop.Reset(matcherKept)
	return l.matcher
}

func (l *lastMatcher) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values, l.matcher = inject.Redactions{}, nil
}
