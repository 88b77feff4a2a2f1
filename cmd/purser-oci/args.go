package main

import "strings"

// command is the command line of an OCI runtime:
//
//	runtime [global flags] SUBCOMMAND [flags] ID [arguments]
//
// As in runc, crun and runsc a flag is --name value, --name=value or, for the
// single letters, -n value. Which flags take a value has to be known to find the
// subcommand and the ID; what is not known is passed on as it stands.
type command struct {
	args []string // without argv[0]
	name string   // of the subcommand; empty when there is none
	at   int      // its index in args
	id   string   // of the container; empty when not found
}

// globalValues are the global flags with a value, of runc, crun and runsc; the last
// has many more, which those who configure it join to their values with "=".
var globalValues = map[string]bool{
	"root": true, "log": true, "log-format": true, "log-level": true, "rootless": true,
	"criu": true, "cgroup-manager": true,
}

// values are the flags with a value of the subcommands that are looked into.
var values = map[string]map[string]bool{
	"create": {"bundle": true, "b": true, "console-socket": true, "pidfd-socket": true, "pid-file": true, "preserve-fds": true,
		"config": true, "f": true, "user-log": true},
	"run": {"bundle": true, "b": true, "console-socket": true, "pidfd-socket": true, "pid-file": true, "preserve-fds": true,
		"config": true, "f": true, "user-log": true},
	"exec": {"process": true, "p": true, "console-socket": true, "pidfd-socket": true, "pid-file": true, "preserve-fds": true,
		"cwd": true, "env": true, "e": true, "user": true, "u": true, "additional-gids": true, "g": true, "process-label": true,
		"apparmor": true, "cap": true, "c": true, "cgroup": true, "internal-pid-file": true},
	"checkpoint": {"image-path": true, "work-path": true, "parent-path": true, "page-server": true, "manage-cgroups-mode": true,
		"empty-ns": true, "status-fd": true, "console-socket": true},
}

func parse(args []string) command {
	c := command{args: args}
	c.at = next(args, 0, globalValues)
	if c.at < 0 {
		return c
	}
	c.name = args[c.at]
	if i := next(args, c.at+1, values[c.name]); i >= 0 {
		c.id = args[i]
	}
	return c
}

// next finds the first argument from an index on that is neither a flag nor the
// value of one; -1 when there is none.
func next(args []string, from int, valued map[string]bool) int {
	for i := from; i < len(args); i++ {
		name, _, joined := flag(args[i])
		switch {
		case args[i] == "--":
			if i+1 < len(args) {
				return i + 1
			}
			return -1
		case name == "":
			return i
		case !joined && valued[name]:
			i++
		}
	}
	return -1
}

// flag splits a flag; name is empty for what is none.
func flag(arg string) (name, value string, joined bool) {
	if len(arg) < 2 || arg[0] != '-' {
		return "", "", false
	}
	return strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
}

// global returns the value of the last occurrence of a global flag.
func (c command) global(names ...string) (string, bool) {
	return last(c.args[:c.end()], globalValues, names)
}

// own returns the value of the last occurrence of a flag of the subcommand.
func (c command) own(names ...string) (string, bool) {
	return last(c.args[c.at+1:], values[c.name], names)
}

// end is where the global flags end.
func (c command) end() int {
	if c.at < 0 {
		return len(c.args)
	}
	return c.at
}

// replace gives a flag of the subcommand another value, wherever it stands.
func (c command) replace(value string, names ...string) []string {
	args := append([]string(nil), c.args...)
	own := args[c.at+1:]
	each(own, values[c.name], names, func(i int, _ string, joined bool) {
		if !joined {
			own[i+1] = value
			return
		}
		before, _, _ := strings.Cut(own[i], "=")
		own[i] = before + "=" + value
	})
	return args
}

func last(args []string, valued map[string]bool, names []string) (found string, ok bool) {
	each(args, valued, names, func(_ int, value string, _ bool) { found, ok = value, true })
	return found, ok
}

// each visits the occurrences of a flag that has a value, up to the first argument
// that is no flag.
func each(args []string, valued map[string]bool, names []string, visit func(i int, value string, joined bool)) {
	for i := 0; i < len(args); i++ {
		name, value, joined := flag(args[i])
		if name == "" || args[i] == "--" {
			return
		}
		if !joined && !valued[name] {
			continue // it has no value
		}
		at := i
		if !joined {
			if i++; i == len(args) {
				return
			}
			value = args[i]
		}
		for _, n := range names {
			if n == name {
				visit(at, value, joined)
			}
		}
	}
}
