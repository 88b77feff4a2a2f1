package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var shortFlag = regexp.MustCompile(`(?m)^ +(-[A-Za-z]), (--[a-z-]+)`)

// docs/cli.md gives the long form of every short flag.
func TestShortFlagsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, flag := range shortFlag.FindAllStringSubmatch(cmd.LocalFlags().FlagUsages(), -1) {
			for _, form := range flag[1:] {
				if !strings.Contains(string(page), "`"+form) {
					t.Errorf("docs/cli.md lacks %s of %s", form, cmd.CommandPath())
				}
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&session{}))
}
