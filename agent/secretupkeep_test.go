package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/store"
)

// putOne writes a version of a secret, as a request does.
func (a *Agent) putOne(t *testing.T, name, value string) {
	t.Helper()
	a.writing.Lock()
	defer a.writing.Unlock()
	options := store.PutOptions{Data: map[string]inject.Value{"K": inject.NewValue([]byte(value))}}
	if _, err := a.put(t.Context(), "dev", name, options); err != nil {
		t.Fatal(err)
	}
}

// Old versions go a while after there are newer ones, and never become many.
func TestOldVersionsGo(t *testing.T) {
	a, _ := rotating(t, "f")
	a.cfg.Secrets.KeepVersions = 3
	a.gate.open()
	most := 0
	for i := range 120 {
		a.putOne(t, "s", fmt.Sprint("value ", i))
		most = max(most, len(a.secrets.Live("dev", "s")))
	}
	if most > 3+1+mostUnpruned {
		t.Errorf("there were %d versions, 3 to be kept, one in use and %d to be dropped together", most, mostUnpruned)
	}
	a.tendSecrets(t.Context())
	if got := a.secrets.Live("dev", "s"); !slices.Equal(got, []uint32{121, 120, 119, 1}) {
		t.Errorf("left are versions %v", got)
	}
}

// Versions that come too fast to have a file each have them a while after.
func TestVersionsOfABurstGetTheirFiles(t *testing.T) {
	a, dir := rotating(t, "f")
	a.gate.open()
	a.reopenSecrets(t, dir, store.Options{Apart: time.Hour})
	a.putOne(t, "s", "two")
	a.putOne(t, "s", "three")
	newest := filepath.Join(dir, "dev", "s", "3.age")
	if _, err := os.Stat(newest); err == nil {
		t.Error("it has a file at once")
	}
	a.tendSecrets(t.Context())
	if _, err := os.Stat(newest); err != nil {
		t.Error(err)
	}
}

// As long as a container may be there that is not known, all are kept; afterwards they go.
func TestOldVersionsGoOnceContainersAreKnown(t *testing.T) {
	a, _ := rotating(t, "f")
	a.cfg.Secrets.KeepVersions = 1
	for i := range 5 {
		a.putOne(t, "s", fmt.Sprint("value ", i))
		a.tendSecrets(t.Context())
	}
	if got := len(a.secrets.Live("dev", "s")); got != 6 {
		t.Errorf("%d versions of 6 are kept", got)
	}
	a.gate.open()
	a.tendSecrets(t.Context())
	if got := a.secrets.Live("dev", "s"); !slices.Equal(got, []uint32{6, 1}) {
		t.Errorf("left are versions %v", got)
	}
}

// What the database has of the store follows it.
func TestSequenceIsNoted(t *testing.T) {
	a, _ := rotating(t, "f")
	for _, value := range []string{"two", "three"} {
		a.putOne(t, "s", value)
		a.tendSecrets(t.Context())
		if noted, err := a.db.SecretsSequence(); err != nil || noted != a.secrets.Sequence() {
			t.Errorf("noted is %d of %d, %v", noted, a.secrets.Sequence(), err)
		}
	}
}
