package state

import (
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

func TestDrainSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	want := &statev1.Drain{Since: timestamppb.New(time.Unix(1000, 0)), Deadline: timestamppb.New(time.Unix(2000, 0))}
	for _, step := range []*statev1.Drain{nil, want, nil} {
		db, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.SetDrain(step); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if db, err = Open(path); err != nil {
			t.Fatal(err)
		}
		got, err := db.Drain()
		if err != nil || (got == nil) != (step == nil) || step != nil && !proto.Equal(got, step) {
			t.Errorf("got %v, %v; want %v", got, err, step)
		}
		if err := db.Check(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if db.Check() == nil {
			t.Error("a database that is closed is well")
		}
	}
}
