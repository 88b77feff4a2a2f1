package agent

import (
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/state"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

// keeper is an agent that looks after images, over the state at a path.
func keeper(t *testing.T, path string, images config.Images) *Agent {
	t.Helper()
	db, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	a := &Agent{log: slog.New(slog.DiscardHandler), db: db, cfg: &config.Config{Images: images}}
	a.loadImageUses()
	return a
}

// What an agent knows of the uses of images, the next one knows, too.
func TestImageUsesSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	a := keeper(t, path, config.Images{})
	came := time.Now().Add(-time.Hour)
	a.imageUse.set("used", came.Add(30*time.Minute))
	a.saveImageUses()
	if err := a.db.Close(); err != nil {
		t.Fatal(err)
	}
	a = keeper(t, path, config.Images{})
	for ref, want := range map[string]time.Duration{"used": 30 * time.Minute, "other": time.Hour} {
		if got := time.Since(a.imageUse.lastUse(runtime.Image{Ref: ref, Updated: came})); (got - want).Abs() > 5*time.Second {
			t.Errorf("%s was used %s ago, not %s", ref, got, want)
		}
	}
	// Without that knowledge none is old.
	if err := a.db.Close(); err != nil {
		t.Fatal(err)
	}
	a.loadImageUses()
	if got := time.Since(a.imageUse.lastUse(runtime.Image{Ref: "other", Updated: came})); got > time.Minute {
		t.Errorf("used %s ago, as far as nobody knows", got)
	}
}

func TestUnusedImages(t *testing.T) {
	now := time.Now()
	image := func(ref string, age time.Duration, pulled bool) runtime.Image {
		return runtime.Image{Ref: ref, Updated: now.Add(-age), Pulled: pulled}
	}
	all := []runtime.Image{
		image("day", 24*time.Hour, true), image("imported", 48*time.Hour, false),
		image("week", 7*24*time.Hour, true), image("used", 7*24*time.Hour, true), image("fresh", time.Minute, true),
	}
	for name, tc := range map[string]struct {
		age      time.Duration
		imported bool
		want     []string
	}{
		"any":      {0, false, []string{"week", "day"}},
		"old":      {25 * time.Hour, false, []string{"week"}},
		"imported": {25 * time.Hour, true, []string{"week", "imported"}},
		"none":     {30 * 24 * time.Hour, true, nil},
	} {
		a := &Agent{cfg: &config.Config{Images: config.Images{GCMinAge: config.Duration(time.Hour), GCImported: tc.imported}}}
		a.imageUse.set("used", now.Add(-time.Minute))
		var got []string
		for _, i := range a.unused(all, now, tc.age) {
			got = append(got, i.Ref)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestImagesInHistory(t *testing.T) {
	a := keeper(t, filepath.Join(t.TempDir(), "state.db"), config.Images{})
	revision := func(number uint32, ref string) *purserv1.AppRevision {
		spec := &purserv1.LaunchSpec{Image: &purserv1.Image{Ref: proto.String(ref)}}
		return &purserv1.AppRevision{Revision: number, Functions: []*purserv1.AppFunction{{Spec: spec}}}
	}
	app := &statev1.App{Environment: "dev", Name: "a", Revisions: []*purserv1.AppRevision{revision(1, "app:1"), revision(2, "app:2")}}
	if err := a.db.Update(func(tx *state.Tx) error { return tx.PutApp(app) }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"docker.io/library/app:1": true, "docker.io/library/app:2": true, "docker.io/library/app:3": false} {
		i := runtime.Image{Ref: name, Digest: "sha256:1"}
		if got, err := a.inHistory(i.Is); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestAgeIsOffByDefault(t *testing.T) {
	// An agent without a runtime could remove nothing.
	a := &Agent{cfg: config.Default()}
	if err := a.removeOld(t.Context(), []runtime.Image{{Ref: "a", Pulled: true, Updated: time.Now().Add(-1e5 * time.Hour)}}); err != nil {
		t.Error(err)
	}
}
