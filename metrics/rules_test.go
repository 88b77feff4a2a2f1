package metrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

func rules(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	return files
}

func TestPromtoolTakesTheRules(t *testing.T) {
	promtool := rig.Program(t, "promtool", "apt-get install prometheus")
	tests, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests of rules: %v", err)
	}
	for _, args := range [][]string{append([]string{"check", "rules"}, rules(t)...), append([]string{"test", "rules"}, tests...)} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Rules are about metrics that there are, and labels that take these values.
func TestRulesAreAboutMetrics(t *testing.T) {
	text := scrape(t, example())
	selector := regexp.MustCompile(`(purser_[a-z_]+)(?:\{([a-z]+)="([a-z_]+)"\})?`)
	for _, file := range rules(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range selector.FindAllStringSubmatch(string(data), -1) {
			series := `(?m)^` + found[1] + `[ {]`
			if found[2] != "" {
				series = `(?m)^` + found[1] + `\{[^}]*\b` + found[2] + `="` + found[3] + `"`
			}
			if !regexp.MustCompile(series).MatchString(text) {
				t.Errorf("%s: there is no %s", file, found[0])
			}
		}
	}
}
