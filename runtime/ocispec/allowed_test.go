package ocispec

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// tree makes directories to mount: data may be, private may not although it
// lies in it, outside is elsewhere.
func tree(t *testing.T) (dir string, policy MountPolicy) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"data/in/deep", "data/private/deep", "outside", "database"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"data/out": "../outside", "data/here": "in", "roots": "data", "data/secret": "private/deep", "data/loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, MountPolicy{
		Roots:     []string{filepath.Join(dir, "roots"), filepath.Join(dir, "missing")},
		Forbidden: []string{filepath.Join(dir, "data/private"), filepath.Join(dir, "not-there")},
	}
}

func TestCheckMounts(t *testing.T) {
	dir, policy := tree(t)
	for source, want := range map[string]struct{ path, err string }{
		"data/in":               {path: "data/in"},
		"data/in/":              {path: "data/in"},
		"data/in/../in/deep":    {path: "data/in/deep"},
		"data/here/deep":        {path: "data/in/deep"},
		"roots/in":              {path: "data/in"},
		"data/out":              {err: "not under"},
		"data/../outside":       {err: "not under"},
		"database":              {err: "not under"},
		"data":                  {err: "would show"},
		"data/private":          {err: "would show"},
		"data/private/deep":     {err: "would show"},
		"data/secret":           {err: "would show"},
		"data/missing":          {err: "not there"},
		"data/loop":             {err: "resolving"},
		"data/in/../../outside": {err: "not under"},
	} {
		got, err := CheckMounts([]*purserv1.Mount{{Source: new(dir + "/" + source), Target: new("/x")}}, policy)
		if want.err != "" {
			if err == nil || !strings.Contains(err.Error(), want.err) || !strings.Contains(err.Error(), "mounts[0]") {
				t.Errorf("%s: %v, want %q", source, err, want.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if path := got[0].GetSource(); path != filepath.Join(dir, want.path) {
			t.Errorf("%s: resolved to %s", source, path)
		}
	}
}

func TestCheckMountsFindsVolumes(t *testing.T) {
	volume := func(name string) *purserv1.Mount {
		return &purserv1.Mount{Type: new("volume"), Source: new(name), Target: new("/x")}
	}
	// Where volumes are, specs may not mount from.
	policy := MountPolicy{Forbidden: []string{"/state"}, Volume: func(name string) (string, error) {
		if name != "data" {
			return "", errors.New("no volume " + name)
		}
		return "/state/volumes/dev/data", nil
	}}
	got, err := CheckMounts([]*purserv1.Mount{volume("data")}, policy)
	if err != nil || got[0].GetSource() != "/state/volumes/dev/data" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := CheckMounts([]*purserv1.Mount{volume("data"), volume("dat")}, policy); err == nil || err.Error() != "mounts[1].source: no volume dat" {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := CheckMounts([]*purserv1.Mount{volume("data")}, MountPolicy{}); err == nil {
		t.Error("without volumes there is one")
	}
}

func TestCheckMountsReportsAll(t *testing.T) {
	dir, policy := tree(t)
	mounts := []*purserv1.Mount{
		{Source: new(dir + "/outside"), Target: new("/a")},
		{Type: new("tmpfs"), Target: new("/b")},
		{Source: new(dir + "/data/missing"), Target: new("/c")},
	}
	_, err := CheckMounts(mounts, policy)
	if err == nil || !strings.Contains(err.Error(), "mounts[0]") || !strings.Contains(err.Error(), "mounts[2]") {
		t.Errorf("got %v", err)
	}
	if mounts[0].GetSource() != dir+"/outside" {
		t.Error("the mounts that were given are changed")
	}
}

func TestNoRootsNoMounts(t *testing.T) {
	_, err := CheckMounts([]*purserv1.Mount{{Source: new("/srv"), Target: new("/a")}}, MountPolicy{})
	if err == nil || !strings.Contains(err.Error(), "allowed_roots is empty") {
		t.Errorf("got %v", err)
	}
}

func TestReadHost(t *testing.T) {
	h, err := ReadHost()
	if err != nil {
		t.Fatal(err)
	}
	if h.MaxOpenFiles == 0 || h.OOMScoreAdj < 0 {
		t.Errorf("%+v", h)
	}
}
