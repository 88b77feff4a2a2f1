// Package version tells which build of purser is running.
//
// A release build sets both values with the linker:
//
//	go build -ldflags "-X github.com/purserd/purser/api/version.version=1.2.0
//	  -X github.com/purserd/purser/api/version.commit=0123abc"
//
// Any other build gets them from what the Go toolchain recorded.
package version

import (
	"runtime/debug"
)

// Set by the linker in release builds.
var version, commit string

// Info identifies a build.
type Info struct {
	// Version is a semantic version without a leading v, or "dev".
	Version string `json:"version" yaml:"version"`
	// Commit is the Git commit, with "-dirty" after it when the tree had
	// changes; "unknown" when neither linker nor toolchain recorded one.
	Commit string `json:"commit" yaml:"commit"`
}

// String gives the build as "1.2.0 (0123abc)".
func (i Info) String() string {
	return i.Version + " (" + i.Commit + ")"
}

// Get identifies the running build.
func Get() Info {
	build, _ := debug.ReadBuildInfo()
	return resolve(version, commit, build)
}
