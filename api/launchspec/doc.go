// Package launchspec reads launch specs and app files, says all that is wrong
// with them, and knows what an absent field means.
//
// A command line reads a file with [Parse]:
//
//	file, err := launchspec.Parse("rag.yaml", data, os.LookupEnv)
//
// It expands ${VARIABLES}, lets every function inherit the file's defaults and
// checks the result. Whatever is wrong comes back at once as [Problems], each
// with the line and column of its cause:
//
//	rag.yaml:12:14: functions[0].restart.policy: must be always, on_failure or never (string.in)
//
// An agent checks what it receives with [Validate] or, for whole requests,
// [Check]: the same rules, without positions.
//
// Absent fields stay absent in a [purserv1.LaunchSpec]; the accessors here,
// such as [Kind] and [StopGrace], give what they mean, which is also the table
// in docs/launch-spec.md. They assume a spec that has passed Validate, and
// give the default for a value that is malformed.
package launchspec
