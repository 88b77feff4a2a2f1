// Package docs holds the documentation to what it documents.
package docs

import (
	"fmt"
	"github.com/pelletier/go-toml/v2"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/api/launchspec"
)

// pages are the README and every page here, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, path := range append(paths, "../README.md") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(data)
	}
	return all
}

var (
	linkPattern    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingPattern = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInAnchor    = regexp.MustCompile(`[^a-z0-9 _-]`)
)

func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		for _, m := range linkPattern.FindAllStringSubmatch(text, -1) {
			u, err := url.Parse(m[1])
			if err != nil || u.Scheme != "" {
				continue
			}
			target := page
			if u.Path != "" {
				target = filepath.Join(filepath.Dir(page), u.Path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if u.Fragment != "" && !slices.Contains(anchors(all[strings.TrimPrefix(target, "../docs/")]), u.Fragment) {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

// anchors are the fragments that a page's headings make on code hosts.
func anchors(text string) []string {
	var all []string
	for _, m := range headingPattern.FindAllStringSubmatch(text, -1) {
		name := notInAnchor.ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(strings.TrimSpace(name), " ", "-"))
	}
	return all
}

// blocks are a page's fenced code blocks in a language.
func blocks(text, language string) []string {
	pattern := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$")
	var all []string
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

func TestAppFilesParse(t *testing.T) {
	found := 0
	for page, text := range pages(t) {
		for _, block := range blocks(text, "yaml") {
			if !strings.Contains(block, "\nfunctions:") {
				continue // a fragment
			}
			found++
			if _, err := launchspec.Parse(page, []byte(block), func(string) (string, bool) { return "", false }); err != nil {
				t.Error(err)
			}
		}
	}
	if found == 0 {
		t.Error("no app file found in the pages")
	}
}

func TestConfigurationIsTheDefault(t *testing.T) {
	blocks := blocks(pages(t)["operations.md"], "toml")
	if len(blocks) == 0 {
		t.Fatal("the page shows no configuration")
	}
	got, err := config.Parse("operations.md", []byte(blocks[0]))
	if err != nil {
		t.Fatal(err)
	}
	want, err := config.Parse("nothing", nil)
	if err != nil {
		t.Fatal(err)
	}
	// These depend on the node, and an empty list is none.
	got.NodeName, want.NodeName = "", ""
	got.Runtimes, want.Runtimes = nil, nil
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the page shows\n%+v\nand the defaults are\n%+v", got, want)
	}
	var shown map[string]any
	if err := toml.Unmarshal([]byte(blocks[0]), &shown); err != nil {
		t.Fatal(err)
	}
	for _, key := range missing(reflect.TypeFor[config.Config](), shown, "") {
		t.Errorf("operations.md does not show the key %s", key)
	}
}

// missing are the keys of a configuration that a table does not have.
func missing(section reflect.Type, shown map[string]any, at string) (keys []string) {
	for i := range section.NumField() {
		f := section.Field(i)
		key := f.Tag.Get("toml")
		value, there := shown[key]
		if !there {
			keys = append(keys, at+key)
		} else if table, ok := value.(map[string]any); ok && f.Type.Kind() == reflect.Struct {
			keys = append(keys, missing(f.Type, table, at+key+".")...)
		}
	}
	return keys
}

// sources are all Go files below the directories, tests left out.
func sources(t *testing.T, dirs ...string) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			all.Write(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// events as the agent's code names them: emit(severity, "Type", … and
// return severity, "Type", ….
var eventPattern = regexp.MustCompile(`(?:emit\(\w+|return (?:normal|warning)), "([A-Z]\w+)"`)

func TestEventsAreListed(t *testing.T) {
	text := pages(t)["operations.md"]
	found := eventPattern.FindAllStringSubmatch(sources(t, "../agent"), -1)
	if len(found) < 10 {
		t.Fatalf("found only %d events in the code", len(found))
	}
	for _, m := range found {
		if !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("operations.md does not list the event %s", m[1])
		}
	}
}

var metricPattern = regexp.MustCompile(`(?:desc\("|"purser_)([a-z_]+)"`)

func TestMetricsAreListed(t *testing.T) {
	text := pages(t)["operations.md"]
	code := sources(t, "../metrics")
	found := metricPattern.FindAllStringSubmatch(code, -1)
	if len(found) < 10 {
		t.Fatalf("found only %d metrics in the code", len(found))
	}
	for _, m := range found {
		if !strings.Contains(text, "`purser_"+m[1]+"`") {
			t.Errorf("operations.md does not list the metric purser_%s", m[1])
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `purser_([a-z_]+)`").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(code, m[1]+`"`) {
			t.Errorf("operations.md lists purser_%s, which is not in the code", m[1])
		}
	}
}
