package state

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// copyOf is a copy of a kept database.
func copyOf(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A database that the first build wrote has all that it had.
func TestFirstSchemaIsBroughtForward(t *testing.T) {
	path := copyOf(t, "schema1.db")
	for range 2 { // the second time there is nothing to do
		db := open(t, path)
		if loss := db.Loss(); loss.Made || loss.Aside != "" || loss.Records != nil {
			t.Errorf("lost: %+v", loss)
		}
		wantFirst(t, db)
		db.Close()
	}
}

func wantFirst(t *testing.T, db *DB) {
	t.Helper()
	at := timestamppb.New(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))
	spec := &purserv1.LaunchSpec{App: proto.String("a"), Function: proto.String("f"), Environment: proto.String("dev"), Image: &purserv1.Image{Ref: proto.String("localhost/box:1")}}
	pins := []*purserv1.Pin{{Secret: "s", Version: 3}}
	want := []*statev1.Workload{{
		Environment: "dev", Id: "a/f", Spec: spec, Generation: 2, Pins: pins, CreatedAt: at, Goal: "run", Run: 4,
		Status: &statev1.Status{
			State: "running", Since: at, Run: 4, Attempts: 1, Restarts: 1, ObservedGeneration: 2, PreviousInstance: "old",
			LastExit:  &purserv1.Exit{Code: 7, Reason: "exited with status 7", Instance: "old"},
			Instances: []*statev1.Instance{{Id: "one", Generation: 2, CreatedAt: at, StartedAt: at, Pid: 77, ImageDigest: "sha256:x", Spec: spec, Pins: pins}},
		},
	}, {
		Environment: "prod", Id: "a/g", Generation: 1, Goal: "stop", Run: 1, CreatedAt: at,
		Status: &statev1.Status{State: "stopped", Since: at, Run: 1},
	}}
	got, err := db.Workloads()
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range want {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("got  %s\nwant %s", protojson.Format(got[i]), protojson.Format(want[i]))
		}
	}
	if app, err := db.App("dev", "a"); err != nil || len(app.GetRevisions()) != 1 {
		t.Errorf("app: %v, %v", app, err)
	}
	if n, err := db.SecretsSequence(); n != 9 || err != nil {
		t.Errorf("sequence: %d, %v", n, err)
	}
	if head, err := db.AuditHead(); string(head) != "head" || err != nil {
		t.Errorf("audit head: %q, %v", head, err)
	}
	if uses, err := db.ImageUses(); len(uses) != 1 || err != nil {
		t.Errorf("image uses: %v, %v", uses, err)
	}
}

// A record of the first schema that cannot be read takes no other along.
func TestUnreadableRecordOfFirstSchema(t *testing.T) {
	path := copyOf(t, "schema1.db")
	raw, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(workloadsBucket).Put([]byte(Key("dev", "a/broken")), []byte{0xff, 0xff})
	})
	if err != nil {
		t.Fatal(err)
	}
	raw.Close()
	db := open(t, path)
	defer db.Close()
	if got := fmt.Sprint(db.Loss().Records); got != "[workloads/dev/a/broken]" {
		t.Errorf("lost %s", got)
	}
	wantFirst(t, db)
}

// Every step keeps every record, whatever is in it.
func TestStepsKeepRecords(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "state.db")
		os.Remove(path)
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,12}`), 0, 40, rapid.ID).Draw(t, "names")
		raw, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Update(func(tx *bbolt.Tx) error {
			if err := makeBuckets(tx); err != nil {
				return err
			}
			for _, name := range names {
				w, _ := proto.Marshal(&statev1.Workload{Environment: "dev", Id: name, Goal: rapid.String().Draw(t, "goal")})
				if err := tx.Bucket(workloadsBucket).Put([]byte(Key("dev", name)), w); err != nil {
					return err
				}
			}
			return putUint(tx.Bucket(metaBucket), schemaKey, 1)
		})
		if err != nil {
			t.Fatal(err)
		}
		raw.Close()
		db, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		all, err := db.Workloads()
		if err != nil || len(all) != len(names) || db.Loss().Records != nil {
			t.Fatalf("%d of %d, %v, %v", len(all), len(names), err, db.Loss())
		}
	})
}
