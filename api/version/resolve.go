package version

import (
	"runtime/debug"
	"strings"
)

// resolve prefers what the linker set over what the toolchain recorded. The
// build is nil for a binary built without module support.
func resolve(version, commit string, build *debug.BuildInfo) Info {
	if build != nil {
		if version == "" {
			version = moduleVersion(build)
		}
		if commit == "" {
			commit = revision(build)
		}
	}
	if version == "" {
		version = "dev"
	}
	if commit == "" {
		commit = "unknown"
	}
	return Info{Version: strings.TrimPrefix(version, "v"), Commit: commit}
}

// moduleVersion is the version of a binary made by "go install …@v1.2.0".
// In a checkout the toolchain makes up pseudo-versions, which say less than
// "dev" and a commit do.
func moduleVersion(build *debug.BuildInfo) string {
	if setting(build, "vcs.revision") != "" || build.Main.Version == "(devel)" {
		return ""
	}
	return build.Main.Version
}

func revision(build *debug.BuildInfo) string {
	rev := setting(build, "vcs.revision")
	if rev != "" && setting(build, "vcs.modified") == "true" {
		rev += "-dirty"
	}
	return rev
}

func setting(build *debug.BuildInfo, key string) string {
	for _, s := range build.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
