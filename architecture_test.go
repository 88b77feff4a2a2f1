package main

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/purserd/purser"

// directions says what a package may import of this module, by path prefix;
// the longest prefix that fits a package counts.
var directions = map[string][]string{
	"api":       {"api"},
	"inject":    {"api", "inject", "failpoint"},
	"runtime":   {"api", "inject", "runtime", "failpoint"},
	"cmd":       {"runtime/handover/protocol"},
	"metrics":   {"api"},
	"failpoint": {},
	"agent":     {"api", "inject", "runtime", "metrics", "agent", "failpoint"},
	"client":    {"api"},
	"cli":       {"api", "client", "cli", "agent/config", "agent/server", "runtime/cni", "runtime/forward", "runtime/loghelper", "runtime/logs"},
	"":          {"cli"},
	"examples":  {"examples"},
	"e2e":       {"api", "client", "e2e", "failpoint"},
	"bench":     {"api", "client", "runtime", "e2e"},
}

// Data flows one way: api → agent → inject → runtime. In particular inject and
// runtime never import agent, and the command line is a plain client.
func TestImportDirections(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		from := strings.TrimPrefix(strings.TrimPrefix(words[0], module), "/")
		for _, imported := range words[1:] {
			to, ours := strings.CutPrefix(imported, module+"/")
			if ours && !allowed(from, to) {
				t.Errorf("%s may not import %s", from, to)
			}
		}
	}
}

func allowed(from, to string) bool {
	rule := ""
	for prefix := range directions {
		if within(from, prefix) && len(prefix) > len(rule) {
			rule = prefix
		}
	}
	for _, prefix := range directions[rule] {
		if within(to, prefix) {
			return true
		}
	}
	return false
}

// within says whether a package lies in a directory.
func within(pkg, dir string) bool {
	return pkg == dir || strings.HasPrefix(pkg, dir+"/")
}
