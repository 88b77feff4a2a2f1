// Package cli is purser's command line: a plain client of the node's API.
//
// [Main] builds the tree of commands, runs one and returns the exit status.
// Each group of commands has its own file; what they share is here:
//
//   - root.go: the global flags, and [session], which every command gets: where
//     to read and write, which node, which environment.
//   - output.go and table.go: tables for people, the API's own JSON or YAML
//     mapping for programs.
//   - errors.go: how an error becomes one message with a hint, and an exit
//     status.
//   - complete.go: completion that asks the node for names.
//
// Commands write what was asked for to standard output and everything else
// to standard error. An exit status of 1 means that a command failed, 2 that
// it was called wrongly. Those that stand in for a function (run, exec, attach
// and wait) exit with the function's status, and with 125 when purser itself
// failed.
//
// Two commands are no clients: agent is the daemon itself, dev (package
// cli/dev) starts a whole node.
package cli
