package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// many stands for any number of arguments.
const many = -1

// takes checks how many arguments there are. What is wrong is said with their
// names, as the usage line has them.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		names := argumentNames(cmd)
		switch {
		case len(args) < least:
			return errors.New("needs " + names)
		case most == many || len(args) <= most:
			return nil
		case names == "":
			return fmt.Errorf("unexpected %q: takes no arguments", args[0])
		default:
			return fmt.Errorf("unexpected %q: takes %s", args[most], names)
		}
	}
}

const flagsMark = "[flags] "

func argumentNames(cmd *cobra.Command) string {
	_, names, _ := strings.Cut(cmd.Use, " ")
	return strings.TrimPrefix(names, flagsMark)
}

// flagsFirst makes usage lines show flags before the arguments, as what follows
// a -- is not purser's.
func flagsFirst(cmd *cobra.Command) {
	if name, names, found := strings.Cut(cmd.Use, " "); found {
		cmd.Use = name + " " + flagsMark + names
	}
	for _, sub := range cmd.Commands() {
		flagsFirst(sub)
	}
}

var wrongValue = regexp.MustCompile(`^invalid argument ("(?:[^"\\]|\\.)*") for "(?:-\w, )?--([\w-]+)" flag: (.*)$`)

// flagError says in plain words what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	parts := wrongValue.FindStringSubmatch(err.Error())
	if parts == nil || cmd.Flag(parts[2]) == nil {
		return misuse(cmd, err)
	}
	return misuse(cmd, fmt.Errorf("--%s %s: %s", parts[2], parts[1], wantedValue(cmd.Flag(parts[2]).Value.Type(), parts[3])))
}

func wantedValue(kind, otherwise string) string {
	switch kind {
	case "float64":
		return "must be a number such as 0.5"
	case "int", "uint32", "uint64":
		return "must be a whole number"
	case "duration":
		return "must be a duration such as 10s or 5m"
	case "bool":
		return "must be true or false"
	}
	return otherwise
}

// commandFlagError is flagError for a command that runs a command, whose flags
// are easily taken for purser's own: those behind more than own arguments.
func commandFlagError(own int) func(*cobra.Command, error) error {
	return func(cmd *cobra.Command, err error) error {
		var unknown interface{ GetSpecifiedName() string }
		if !errors.As(err, &unknown) || !strings.HasPrefix(err.Error(), "unknown ") {
			return flagError(cmd, err)
		}
		name := unknown.GetSpecifiedName()
		if cmd.Flags().NArg() > own {
			return misuse(cmd, fmt.Errorf("%s is no flag of purser's: put the command after --", strconv.Quote(dashed(name))))
		}
		return misuse(cmd, err)
	}
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
