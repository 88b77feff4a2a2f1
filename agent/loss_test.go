package agent

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/state"
)

// losing is an agent on the database that there is at a path.
func losing(t *testing.T, path string) *Agent {
	t.Helper()
	a := drainable(t)
	db, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	a.db, a.cfg = db, config.Default()
	return a
}

// expectLosses compares how many losses were counted.
func (a *Agent) expectLosses(t *testing.T, want string) {
	t.Helper()
	if !strings.Contains(a.scrape(), "\npurser_state_losses_total "+want+"\n") {
		t.Errorf("not counted: %s", want)
	}
}

// scrape is what Prometheus gets.
func (a *Agent) scrape() string {
	answer := httptest.NewRecorder()
	a.metrics.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	return answer.Body.String()
}

func TestLossesAreCounted(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	db, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := asking("f", "1Mi")
	if err := db.Update(func(tx *state.Tx) error { return tx.PutWorkload(r) }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	t.Run("none", func(t *testing.T) {
		a := losing(t, path)
		a.reportLosses()
		a.expectLosses(t, "0")
	})
	t.Run("a record", func(t *testing.T) {
		damageRecord(t, path, state.Key(r.GetEnvironment(), r.GetId()))
		a := losing(t, path)
		a.reportLosses()
		a.expectLosses(t, "1")
	})
	t.Run("the database", func(t *testing.T) {
		damaged := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(damaged, []byte("nothing of the kind"), 0o600); err != nil {
			t.Fatal(err)
		}
		a := losing(t, damaged)
		a.reportLosses()
		a.expectLosses(t, "1")
		a.reportLoss() // a container that no record explains was found
		a.expectLosses(t, "1")
	})
}

// damageRecord flips a bit of a workload's record.
func damageRecord(t *testing.T, path, key string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		records := tx.Bucket([]byte("workloads"))
		flipped := slices.Clone(records.Get([]byte(key)))
		flipped[len(flipped)/2] ^= 1
		return records.Put([]byte(key), flipped)
	})
	if err != nil {
		t.Fatal(err)
	}
}
