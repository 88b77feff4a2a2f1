package launchspec_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/purserd/purser/api/launchspec"
)

func TestExpansion(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"value":              {"${A}", "one"},
		"inside":             {"x-${A}-${B}", "x-one-two"},
		"set and empty":      {"x${EMPTY}", "x"},
		"default not needed": {"${A:-d}", "one"},
		"default":            {"${NONE:-d}", "d"},
		"default when empty": {"${EMPTY:-d}", "d"},
		"empty default":      {"x${NONE:-}", "x"},
		"odd default":        {"${NONE:-a:-b?c $D}", "a:-b?c $D"},
		"message not needed": {"${A:?say}", "one"},
		"bare":               {"$A $ $1 $$", "$A $ $1 $$"},
		"escape":             {"$${A}", "${A}"},
		"escape of anything": {"$${no such form", "${no such form"},
		"escape twice":       {"$$${A}", "$${A}"},
		"not expanded again": {"${REF}", "${A}"},
		"not taken for YAML": {"${YAML}", "{a: [b]}\n# c"},
		"closing brace":      {"a}b", "a}b"},
	}
	lookup := variables("A=one", "B=two", "EMPTY=", "REF=${A}", "YAML={a: [b]}\n# c")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text := head + "labels: {v: '" + tt.text + "'}\n"
			file, err := launchspec.Parse("a.yaml", []byte(text), lookup)
			if err != nil {
				t.Fatal(err)
			}
			if got := file.Specs[0].GetLabels()["v"]; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestExpansionReachesValuesOnly(t *testing.T) {
	file := mustParse(t, `
app: ${A} # ${NOT_SET}
function: f
image: {ref: "${A}:${N}"}
kind: job
command: ["${A}", "$${A}"]
args:
  - ${NEVER CLOSED
env: {command: "${A}", args: "${A}"}
labels: {"${A}": "${A}"}
resources: {cpu: "${N}", pids: "${N}"}
retries: ${N}
read_only_root: "${YES}"
probes: {live: {exec: {command: ["${A}"]}, failures: "${N}"}}
hooks: {pre_stop: ["${A}"]}
`, "A=one", "N=2", "YES=true")
	sameSpec(t, file.Specs[0], spec(t, `{
		"app": "one", "function": "f", "image": {"ref": "one:2"}, "kind": "job",
		"command": ["${A}", "$${A}"], "args": ["${NEVER CLOSED"],
		"env": {"command": "one", "args": "one"}, "labels": {"${A}": "one"},
		"resources": {"cpu": 2, "pids": 2}, "retries": 2, "read_only_root": true,
		"probes": {"live": {"exec": {"command": ["${A}"]}, "failures": 2}}, "hooks": {"pre_stop": ["${A}"]}
	}`))
}

func TestExpansionProblems(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"unset":                {"${NONE}", "needs the variable NONE, which is not set; ${NONE:-default} gives it a default (expand.unset)"},
		"required":             {"${NONE:?tell me the name}", "needs the variable NONE: tell me the name (expand.required)"},
		"required, no message": {"${EMPTY:?}", "needs the variable EMPTY: it is not set or empty (expand.required)"},
		"no operator":          {"${NONE-x}", "has ${NONE-x}: want ${NAME}, ${NAME:-default} or ${NAME:?message}, not nested"},
		"no name":              {"${}", "has ${}: want ${NAME}"},
		"number":               {"${1}", "has ${1}: want ${NAME}"},
		"substitution":         {"${A/b/c}", "has ${A/b/c}: want ${NAME}"},
		"alternative":          {"${A:+x}", "has ${A:+x}: want ${NAME}"},
		"spaces":               {"${ A }", "has ${ A }: want ${NAME}"},
		"nested":               {"${NONE:-${A}}", "has ${NONE:-${A}: want ${NAME}"},
		"never closed":         {"x ${A", "has ${A: want ${NAME}"},
		"closed too late":      {"${" + strings.Repeat("y", 100) + ";}", "has ${" + strings.Repeat("y", 28) + "…: want ${NAME}"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := launchspec.Parse("a.yaml", []byte(head+"user: '"+tt.text+"'\n"), variables("A=one", "EMPTY="))
			checkProblems(t, err, "a.yaml:4:7: user: "+tt.want)
		})
	}
}

// A field that is not read is one mistake, whatever its value says.
func TestUnknownFieldsAreNotExpanded(t *testing.T) {
	_, err := launchspec.Parse("a.yaml", []byte(head+"comand: [sh, -c, 'echo ${HOME:?no}']\nresources: {cpus: '${NONE}', memory: '${NONE}'}\n"), variables())
	checkProblems(t, err,
		"a.yaml:4:1: comand: is no field here; did you mean command?",
		"a.yaml:5:13: resources.cpus: is no field here; did you mean cpu?",
		"a.yaml:5:38: resources.memory: needs the variable NONE")
}

func TestTwoMistakesInOneValue(t *testing.T) {
	_, err := launchspec.Parse("a.yaml", []byte(head+"workdir: ${ONE}/${TWO}\n"), variables())
	checkProblems(t, err, "a.yaml:4:10: workdir: needs the variable ONE", "a.yaml:4:10: workdir: needs the variable TWO")
}

// What a variable holds may be a secret given by mistake.
func TestProblemsShowNoExpandedValue(t *testing.T) {
	const secret = "s3cr3t-Value!"
	_, err := launchspec.Parse("a.yaml", []byte(`
app: ${S}
function: ${S}
environment: ${S}
id: ${S}
kind: ${S}
image: {ref: "${S}:${S}"}
env: {A: "${S}"}
runtime: ${S}
retries: ${S}
stdin: ${S}
user: ${S}
workdir: ${S}
timeout: ${S}
stop: {signal: "${S}", grace: "${S}"}
resources: {cpu: "${S}", memory: "${S}", pids: "${S}"}
network: "${S}"
secrets: [{name: "${S}", keys: {A: "${S}", B: "${S}"}, prefix: "${S}"}]
mounts: [{target: "${S}", source: "${S}"}, {target: "${S}", type: "${S}", size: "${S}"}]
`), variables("S="+secret))
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
}

// A text without "${" comes through as it is, and escaping any text keeps it.
func TestExpansionKeepsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~äöü\n]{0,30}`).Draw(t, "text")
		escaped := strings.ReplaceAll(text, "${", "$${")
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(escaped)
		file, err := launchspec.Parse("a.yaml", []byte(head+`labels: {v: "`+quoted+"\"}\n"), variables())
		if err != nil {
			t.Fatal(err)
		}
		if got := file.Specs[0].GetLabels()["v"]; got != text {
			t.Fatalf("got %q, want %q", got, text)
		}
	})
}
