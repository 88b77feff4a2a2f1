package state

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

func open(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestWorkloadsSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := open(t, path)
	w := &statev1.Workload{Environment: "dev", Id: "a/b", Generation: 3, Goal: "run"}
	st := &statev1.Status{State: "running", Run: 2}
	err := db.Update(func(tx *Tx) error {
		if err := tx.PutWorkload(w); err != nil {
			return err
		}
		return tx.PutStatus(Key("dev", "a/b"), st)
	})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()

	db = open(t, path)
	all, err := db.Workloads()
	if err != nil || len(all) != 1 {
		t.Fatalf("got %v, %v", all, err)
	}
	w.Status = st
	if !proto.Equal(all[0], w) {
		t.Errorf("got %v, want %v", all[0], w)
	}
	if err := db.Update(func(tx *Tx) error { return tx.DeleteWorkload(Key("dev", "a/b")) }); err != nil {
		t.Fatal(err)
	}
	if all, _ = db.Workloads(); len(all) != 0 {
		t.Errorf("still there: %v", all)
	}
}

func TestTwoAgentsOnOneDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	open(t, path)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("got %v", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := open(t, path)
	db.bolt.Update(func(tx *bbolt.Tx) error { return putUint(tx.Bucket(metaBucket), schemaKey, Schema+1) })
	db.Close()
	before, was := content(t, path)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "newer purser (schema 3; this one knows 2), and nothing in it was changed: run that one") {
		t.Errorf("got %v", err)
	}
	if after, is := content(t, path); !bytes.Equal(before, after) || !was.Equal(is) {
		t.Error("it was written to")
	}
}

// content is what a file holds, and since when.
func content(t *testing.T, path string) ([]byte, time.Time) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, info.ModTime()
}

func TestApps(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "state.db"))
	if app, err := db.App("dev", "x"); app != nil || err != nil {
		t.Errorf("got %v, %v", app, err)
	}
	for _, env := range []string{"prod", "dev"} {
		if err := db.Update(func(tx *Tx) error { return tx.PutApp(&statev1.App{Environment: env, Name: "x"}) }); err != nil {
			t.Fatal(err)
		}
	}
	all, err := db.Apps()
	if err != nil || len(all) != 2 || all[0].GetEnvironment() != "dev" {
		t.Errorf("got %v, %v", all, err)
	}
}
