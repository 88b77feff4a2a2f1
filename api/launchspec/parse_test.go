package launchspec_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// variables makes a lookup of a fixed environment.
func variables(pairs ...string) func(string) (string, bool) {
	env := map[string]string{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}

// spec reads a launch spec from its JSON mapping.
func spec(t testing.TB, text string) *purserv1.LaunchSpec {
	t.Helper()
	s := &purserv1.LaunchSpec{}
	if err := protojson.Unmarshal([]byte(text), s); err != nil {
		t.Fatalf("reading the wanted spec: %v", err)
	}
	return s
}

func sameSpec(t testing.TB, got, want *purserv1.LaunchSpec) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", protojson.Format(got), protojson.Format(want))
	}
}

func mustParse(t testing.TB, text string, env ...string) *launchspec.File {
	t.Helper()
	file, err := launchspec.Parse("app.yaml", []byte(text), variables(env...))
	if err != nil {
		t.Fatalf("Parse:\n%v", err)
	}
	return file
}

// checkProblems compares the lines of an error; each wanted line may be the
// start of one.
func checkProblems(t testing.TB, err error, want ...string) {
	t.Helper()
	var problems launchspec.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("got %v, want problems", err)
	}
	got := strings.Split(problems.Error(), "\n")
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			t.Errorf("unexpected: %s", got[i])
		case i >= len(got):
			t.Errorf("missing:    %s", want[i])
		case !strings.HasPrefix(got[i], want[i]):
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
}

// documentedExample is the app file of docs/launch-spec.md.
func documentedExample(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/launch-spec.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(page), "\n```yaml\n")
	if !ok {
		t.Fatal("docs/launch-spec.md has no example")
	}
	example, _, _ = strings.Cut(example, "\n```\n")
	return example
}

func TestParseAppFile(t *testing.T) {
	file := mustParse(t, documentedExample(t), "APP_ENV=prod")
	if file.App != "rag-qna" || file.Environment != "prod" || !file.Whole || len(file.Specs) != 2 {
		t.Fatalf("got %+v", file)
	}
	sameSpec(t, file.Specs[0], spec(t, `{
		"app": "rag-qna", "environment": "prod", "function": "answer-question",
		"image": {"ref": "registry.example/rag:1.4", "env": {"ENV": "prod"}},
		"command": ["python", "-m", "rag"],
		"env": {"ALGOLIA_INDEX": "potus_speeches_prod"},
		"secrets": [
			{"name": "openai-secret", "required_keys": ["OPENAI_API_KEY"]},
			{"name": "algolia-secret", "keys": {"API_KEY": "ALGOLIA_API_KEY"}}
		],
		"restart": {"policy": "on_failure", "backoff_min": "500ms", "backoff_max": "30s"},
		"resources": {"cpu": 0.5, "memory": "256Mi"},
		"probes": {"startup": {"http": {"port": 8080, "path": "/healthz"}, "period": "100ms", "failures": 300}, "live": {"exec": {"command": ["cat", "/tmp/ok"]}}},
			"hooks": {"pre_stop": ["sh", "-c", "sleep 1"]}, "stop": {"signal": "SIGINT", "grace": "5s"},
		"mounts": [
			{"source": "/srv/corpus", "target": "/corpus", "read_only": true},
			{"type": "volume", "source": "answers", "target": "/data"},
			{"type": "tmpfs", "target": "/tmp", "size": "16Mi"}
		],
		"user": "1000:1000", "workdir": "/app", "read_only_root": true,
		"labels": {"team": "search"}
	}`))
	sameSpec(t, file.Specs[1], spec(t, `{
		"app": "rag-qna", "environment": "prod", "function": "reindex", "kind": "job",
		"image": {"ref": "registry.example/rag:1.4", "env": {"ENV": "prod"}},
		"command": ["python", "-m", "reindex"],
		"secrets": [{"name": "openai-secret", "required_keys": ["OPENAI_API_KEY"]}],
		"timeout": "300s", "retries": 2, "ttl_after_finished": "1h"
	}`))
}

func TestParseSingleSpec(t *testing.T) {
	file := mustParse(t, `
app: a
function: f
image: {ref: busybox}
env: {PORT: 8080, DEBUG: true, RATIO: 1.50, DATE: 2026-11-23, EMPTY: "", TILDE: "~"}
user: 1000
args:
retries: # says nothing
`)
	if file.App != "a" || file.Environment != "" || file.Whole || len(file.Specs) != 1 {
		t.Fatalf("got %+v", file)
	}
	sameSpec(t, file.Specs[0], spec(t, `{
		"app": "a", "function": "f", "image": {"ref": "busybox"}, "user": "1000",
		"env": {"PORT": "8080", "DEBUG": "true", "RATIO": "1.50", "DATE": "2026-11-23", "EMPTY": "", "TILDE": "~"}
	}`))
}

func TestParseJSON(t *testing.T) {
	// YAML's reader refuses both escapes, and tabs.
	text := "{\n\t\"app\": \"a\", \"function\": \"f\",\n\t\"image\": {\"ref\": \"registry.example\\/b\"}," +
		"\n\t\"labels\": {\"face\": \"\\ud83d\\ude00\", \"n\": 1.50, \"no\": false},\n\t\"read_only_root\": true, \"runtime\": null\n}\n"
	file := mustParse(t, text)
	sameSpec(t, file.Specs[0], spec(t, `{
		"app": "a", "function": "f", "image": {"ref": "registry.example/b"},
		"labels": {"face": "😀", "n": "1.50", "no": "false"}, "read_only_root": true
	}`))
}

func TestParseJSONProblems(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
	}{
		"positions": {"{\n  \"app\": \"a\",\n  \"function\": 7,\n  \"imäge\": {}, \"app\": \"b\",\n  \"kind\": \"cron\",\n  \"image\": {\"ref\": [1]}\n}", []string{
			`f.json:4:3: ["imäge"]: is no field here; did you mean image? (field.unknown)`,
			`f.json:4:16: app: is given twice, first on line 2 (field.repeated)`,
			`f.json:5:11: kind: must be service or job (string.in)`,
			`f.json:6:20: image.ref: must be a single value, not a list (field.type)`,
		}},
		"not JSON":     {"{\n  \"app\": a\n}", []string{`f.json:2:10: is no valid JSON: invalid character 'a'`}},
		"YAML":         {"app: a\n", []string{`f.json:1:1: is no valid JSON`}},
		"cut off":      {"{\"app\":", []string{`f.json:1:8: is no valid JSON: it ends too early`}},
		"two values":   {"{}\n{}", []string{`f.json:2:1: is no valid JSON: something follows the end of the value`}},
		"empty":        {"", []string{`f.json:1:1: is no valid JSON: it ends too early`}},
		"deep":         {strings.Repeat("[", 200000), []string{`f.json:1:34: nests deeper than 32 levels (file.depth)`}},
		"not a spec":   {"[1]", []string{`f.json:1:1: must be a launch spec or an app file, not a list (field.type)`}},
		"quoted count": {`{"app":"a","function":"f","kind":"job","image":{"ref":"b"},"retries":"3"}`, []string{`f.json:1:70: retries: must be a whole number from 0 to 1000, without quotes, not "3" (field.type)`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := launchspec.Parse("f.json", []byte(tt.text), variables())
			checkProblems(t, err, tt.want...)
		})
	}
}
