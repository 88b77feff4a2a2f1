package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/redact"
)

// redactions are those of a secret's one key.
func redactions(t *testing.T, value string) inject.Redactions {
	t.Helper()
	content, err := json.Marshal([][3][]byte{{[]byte("s"), []byte("KEY"), []byte(value)}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "redactions")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := inject.ReadRedactions(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func shown(m *redact.Matcher, text string) string {
	var out strings.Builder
	w := redact.NewWriter(&out, m, time.Hour, func(uint64) {})
	_, _ = w.Write([]byte(text))
	w.Close()
	return out.String()
}

// A matcher is made once for the same values, never serves for others, and is
// dropped a minute after it was needed last.
func TestLastMatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lastMatcher
		first := l.of(redactions(t, "first value"))
		<-time.After(matcherKept - 1)
		if l.of(redactions(t, "first value")) != first {
			t.Error("made again for the same values")
		}
		<-time.After(matcherKept - 1)
		if l.of(redactions(t, "first value")) != first {
			t.Error("dropped before its time")
		}
		if got := shown(l.of(redactions(t, "other value")), "first value, other value"); got != "first value, [secret:s/KEY]" {
			t.Errorf("with another value: %s", got)
		}
		if got := shown(first, "first value, other value"); got != "[secret:s/KEY], other value" {
			t.Errorf("of who has it still: %s", got)
		}
		<-time.After(matcherKept)
		synctest.Wait()
		if l.matcher != nil || l.values.Any() {
			t.Error("kept for ever")
		}
		if got := shown(l.of(redactions(t, "other value")), "other value"); got != "[secret:s/KEY]" {
			t.Errorf("made anew: %s", got)
		}
		l.drop.Stop()
	})
}
