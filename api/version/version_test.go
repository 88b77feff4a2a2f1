package version

import (
	"runtime/debug"
	"testing"
)

func TestResolve(t *testing.T) {
	vcs := func(version, revision, modified string) *debug.BuildInfo {
		return &debug.BuildInfo{
			Main: debug.Module{Version: version},
			Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: revision},
				{Key: "vcs.modified", Value: modified},
			},
		}
	}
	tests := map[string]struct {
		version, commit string
		build           *debug.BuildInfo
		want            Info
	}{
		"nothing known":        {want: Info{"dev", "unknown"}},
		"release":              {"1.2.0", "0123abc", nil, Info{"1.2.0", "0123abc"}},
		"release with v":       {"v1.2.0", "0123abc", nil, Info{"1.2.0", "0123abc"}},
		"linker wins":          {"1.2.0", "0123abc", vcs("v9.9.9", "fff", "true"), Info{"1.2.0", "0123abc"}},
		"checkout":             {build: vcs("(devel)", "fff", "false"), want: Info{"dev", "fff"}},
		"changed checkout":     {build: vcs("v0.0.0-20261123+dirty", "fff", "true"), want: Info{"dev", "fff-dirty"}},
		"go install":           {build: &debug.BuildInfo{Main: debug.Module{Version: "v1.2.0"}}, want: Info{"1.2.0", "unknown"}},
		"checkout without vcs": {build: &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, want: Info{"dev", "unknown"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := resolve(tt.version, tt.commit, tt.build); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestGetIsNeverEmpty(t *testing.T) {
	got := Get()
	if got.Version == "" || got.Commit == "" {
		t.Errorf("got %+v", got)
	}
	if want := got.Version + " (" + got.Commit + ")"; got.String() != want {
		t.Errorf("String is %q, want %q", got, want)
	}
}
