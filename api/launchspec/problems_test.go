package launchspec_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/purserd/purser/api/launchspec"
)

// head is a valid single spec of three lines.
const head = "app: a\nfunction: f\nimage: {ref: busybox}\n"

func TestThreeMistakesInAnAppFile(t *testing.T) {
	_, err := launchspec.Parse("rag.yaml", []byte(`app: rag
defaults:
  image: {ref: rag}
  restart:
    policy: sometimes
functions:
  - function: ask
    comand: [ask]
    env:
      PORT: 1
      PORT: 2
  - function: index
    kind: job
`), variables())
	checkProblems(t, err,
		`rag.yaml:4:3: defaults.restart: must not be given for a job, which has retries: restart belongs to kind: service; inherited by index (service.restart)`,
		`rag.yaml:5:13: defaults.restart.policy: must be always, on_failure or never (string.in)`,
		`rag.yaml:8:5: functions[0].comand: is no field here; did you mean command? (field.unknown)`,
		`rag.yaml:11:7: functions[0].env["PORT"]: is given twice, first on line 10 (field.repeated)`,
	)
}

func TestAppFileProblems(t *testing.T) {
	const app = "app: a\ndefaults:\n  image: {ref: b}\n"
	tests := map[string]struct {
		text string
		want []string
	}{
		"default overridden everywhere has the wrong type": {
			"app: a\ndefaults: {image: {ref: [b]}, retries: x}\nfunctions:\n- {function: f, image: {ref: b}, kind: job, retries: 1}\n",
			[]string{
				`a.yaml:2:25: defaults.image.ref: must be a single value, not a list (field.type)`,
				`a.yaml:2:40: defaults.retries: must be a whole number from 0 to 1000, without quotes, not "x" (field.type)`,
			},
		},
		"default overridden everywhere breaks a rule": {app + "  kind: nonsense\nfunctions:\n- {function: f, kind: job}\n", nil},
		"a default of all functions is reported once": {
			app + "  timeout: 1s\nfunctions:\n- {function: f}\n- {function: g}\n",
			[]string{`a.yaml:4:12: defaults.timeout: must not be given for a service: timeout, retries and ttl_after_finished belong to kind: job (job.fields)`},
		},
		"a default of two in three": {
			app + "  timeout: 1s\nfunctions:\n- {function: f}\n- {function: g}\n- {function: h, kind: job}\n",
			[]string{`a.yaml:4:12: defaults.timeout: must not be given for a service: timeout, retries and ttl_after_finished belong to kind: job; inherited by f and g (job.fields)`},
		},
		"a merged group lacks a field": {
			"app: a\ndefaults:\n  image: {env: {A: b}}\nfunctions:\n- function: f\n- function: g\n  image: {env: {C: d}}\n",
			[]string{
				`a.yaml:3:3: defaults.image.ref: is required; inherited by f (required)`,
				`a.yaml:7:3: functions[1].image.ref: is required (required)`,
			},
		},
		"the backoff crosses after inheritance": {
			app + "  restart: {backoff_max: 5s}\nfunctions:\n- function: f\n  restart:\n    backoff_min: 10s\n",
			[]string{`a.yaml:8:18: functions[0].restart.backoff_min: must be at most backoff_max (restart.backoff)`},
		},
		"a secret of the defaults is at fault": {
			app + "  secrets:\n  - {name: one, version: 0}\nfunctions:\n- function: f\n  secrets: [{name: two, prefix: 7}]\n",
			[]string{
				`a.yaml:5:26: defaults.secrets[0].version: must be greater than or equal to 1 (uint32.gte)`,
				`a.yaml:8:33: functions[0].secrets[0].prefix: must be letters, digits and '_', the first no digit (string.pattern)`,
			},
		},
		"misspelt fields in the wrong place": {
			"app: a\ndefaults: {functoin: x, image: {ref: b}}\nfunctions:\n- {function: f, enviroment: dev}\n",
			[]string{
				`a.yaml:2:12: defaults.functoin: is no field here; function belongs to each function (field.unknown)`,
				`a.yaml:4:17: functions[0].enviroment: is no field here; environment belongs at the top of the file (field.unknown)`,
			},
		},
		"fields in the wrong place": {
			"app: a\nkind: job\ndefaults: {function: x, environment: dev, image: {ref: b}}\nfunctions:\n- {function: f, app: b}\n",
			[]string{
				`a.yaml:2:1: kind: belongs to a function, or in defaults for all of them (field.unknown)`,
				`a.yaml:3:12: defaults.function: belongs to each function (field.misplaced)`,
				`a.yaml:3:25: defaults.environment: belongs at the top of the file (field.misplaced)`,
				`a.yaml:5:17: functions[0].app: belongs at the top of the file (field.misplaced)`,
			},
		},
		"no app, said once": {
			"functions:\n- {function: f, image: {ref: b}}\n- {function: g, image: {ref: b}}\n",
			[]string{`a.yaml:1:1: app: is required (required)`},
		},
		"a bad environment, said once": {
			"environment: no spaces\n" + app + "functions:\n- {function: f}\n- {function: g}\n",
			[]string{`a.yaml:1:14: environment: must be 1 to 64 letters`},
		},
		"functions without names": {
			app + "functions:\n- kind: job\n- kind: service\n",
			[]string{
				`a.yaml:5:3: functions[0].function: is required (required)`,
				`a.yaml:6:3: functions[1].function: is required (required)`,
			},
		},
		"functions of one name": {
			app + "functions:\n- function: f\n- function: g\n- kind: job\n  function: f\n",
			[]string{`a.yaml:8:13: functions[2].function: repeats functions[0].function, line 5 (functions.unique)`},
		},
		"functions of one ID": {
			app + "functions:\n- {function: f}\n- {function: g, id: a/f}\n",
			[]string{`a.yaml:6:21: functions[1].id: gives the ID of function f (functions.id)`},
		},
		"no functions":               {app, []string{`a.yaml:1:1: functions: must contain at least 1 function; to remove an app: purser app rm`}},
		"empty functions":            {app + "functions: []\n", []string{`a.yaml:4:1: functions: must contain at least 1 function; to remove an app: purser app rm`}},
		"null functions":             {app + "functions:\n", []string{`a.yaml:4:1: functions: must contain at least 1 function; to remove an app: purser app rm`}},
		"functions that are none":    {app + "functions: {f: {}}\n", []string{`a.yaml:4:12: functions: must be a list of functions, not a group of fields (field.type)`}},
		"a function that is none":    {app + "functions: [f, [g], null]\n", []string{`a.yaml:4:13: functions[0]: must be a group of fields, not a`, `a.yaml:4:16: functions[1]: must be a group of fields, not a`, `a.yaml:4:21: functions[2]: must be a group of fields, not a`}},
		"defaults that are none":     {"app: a\ndefaults: [x]\nfunctions: [{function: f, image: {ref: b}}]\n", []string{`a.yaml:2:11: defaults: must be a group of fields, not a`}},
		"null defaults are none":     {"app: a\ndefaults:\nfunctions: [{function: f, image: {ref: b}}]\n", nil},
		"unknown in all functions":   {app + "  prots: {}\nfunctions: [{function: f}, {function: g}]\n", []string{`a.yaml:4:3: defaults.prots: is no field here (field.unknown)`}},
		"unset in the defaults":      {app + "  user: ${NOBODY}\nfunctions: [{function: f}, {function: g}]\n", []string{`a.yaml:4:9: defaults.user: needs the variable NOBODY, which is not set; ${NOBODY:-default} gives it a default (expand.unset)`}},
		"a secret twice after merge": {app + "  secrets: [{name: s}]\nfunctions: [{function: f, secrets: [{name: s}, {name: s}]}]\n", []string{`a.yaml:5:55: functions[0].secrets[1].name: repeats functions[0].secrets[0].name, line 5 (secrets.unique)`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := launchspec.Parse("a.yaml", []byte(tt.text), variables())
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			checkProblems(t, err, tt.want...)
		})
	}
}

func TestSpecProblems(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
	}{
		"nothing but a name":      {"function: f\n", []string{"a.yaml:1:1: app: is required (required)", "a.yaml:1:1: image: is required (required)"}},
		"misspelt required field": {"app: a\nfunction: f\nimage: {reference: b}\n", []string{"a.yaml:3:1: image.ref: is required (required)", "a.yaml:3:9: image.reference: is no field here; there are auth_secret, env, pull and ref (field.unknown)"}},
		"misspelt is not missing": {"apps: a\nfunction: f\nimage: {Ref: b}\n", []string{"a.yaml:1:1: apps: is no field here; did you mean app?", "a.yaml:3:9: image.Ref: is no field here; did you mean ref?"}},
		"camel case":              {head + "readOnlyRoot: true\n", []string{"a.yaml:4:1: readOnlyRoot: is no field here; did you mean read_only_root? (field.unknown)"}},
		"scalar for a group":      {"app: a\nfunction: f\nimage: busybox\n", []string{"a.yaml:3:8: image: must be a group of fields (auth_secret, env, pull and ref), not a single value (field.type)"}},
		"scalar for a list":       {head + "command: python -m rag\n", []string{"a.yaml:4:10: command: must be a list, not a single value (field.type)"}},
		"list for a map":          {head + "env: [A=b]\n", []string{"a.yaml:4:6: env: must be a group of names and values, not a list (field.type)"}},
		"group in a list":         {head + "command: [a, {b: c}, [d], null]\n", []string{"a.yaml:4:14: command[1]: must be a single value, not a group of fields (field.type)", "a.yaml:4:22: command[2]: must be a single value, not a list (field.type)", `a.yaml:4:27: command[3]: has no value; write "" for an empty one (field.type)`}},
		"no value in a map":       {head + "env:\n  A:\n  B: x\n", []string{`a.yaml:5:5: env["A"]: has no value; write "" for an empty one (field.type)`}},
		"bool":                    {head + "stdin: \"true\"\nread_only_root: yes\n", []string{`a.yaml:4:8: stdin: must be true or false, without quotes, not "true"`, `a.yaml:5:17: read_only_root: must be true or false, without quotes, not "yes"`}},
		"numbers":                 {head + "kind: job\nretries: 1.5\nresources: {cpu: 500m, pids: -1}\n", []string{`a.yaml:5:10: retries: must be a whole number`, `a.yaml:6:18: resources.cpu: must be a number such as 0.5, without quotes, not "500m"`, `a.yaml:6:30: resources.pids: must be a whole number`}},
		"user ID too large":       {head + "secrets: [{name: s, file: {path: /s, uid: 2147483648}}]\n", []string{`a.yaml:4:43: secrets[0].file.uid: must be less than or equal to 2147483647`}},
		"no user ID at all":       {head + "secrets: [{name: s, file: {path: /s, uid: 4294967296}}]\n", []string{`a.yaml:4:43: secrets[0].file.uid: must be a whole number from 0 to 2147483647`}},
		"number too large":        {head + "resources: {pids: 4294967296}\n", []string{`a.yaml:4:19: resources.pids: must be a whole number from 0 to 4194304`}},
		"number in octal":         {head + "resources: {pids: 0777}\n", []string{`a.yaml:4:19: resources.pids: must be a whole number`}},
		"number not a number":     {head + "resources: {cpu: .nan}\n", []string{`a.yaml:4:18: resources.cpu: must be a number`}},
		"number out of bounds":    {head + "resources: {cpu: 0, pids: 0}\n", []string{`a.yaml:4:18: resources.cpu: must be greater than or equal to 0.01`, `a.yaml:4:27: resources.pids: must be greater than or equal to 1`}},
		"long values are cut":     {head + "stdin: " + strings.Repeat("ä", 100) + "\n", []string{`a.yaml:4:8: stdin: must be true or false, without quotes, not "` + strings.Repeat("ä", 40) + `"… (field.type)`}},
		"bad map key":             {head + "env: {1A: x, PURSER_APP: y}\n", []string{`a.yaml:4:7: env["1A"]: the name must be letters, digits and '_'`, `a.yaml:4:14: env["PURSER_APP"]: the name must not start with PURSER_: purser alone sets those variables (env.reserved)`}},
		"three levels down":       {head + "secrets:\n- name: s\n  keys:\n    A: 1B\n", []string{`a.yaml:7:8: secrets[0].keys["A"]: must be letters, digits and '_', the first no digit (string.pattern)`}},
		"alias":                   {head + "env: &e {A: b}\nlabels: *e\n", []string{"a.yaml:4:6: env: has a YAML anchor", "a.yaml:5:9: labels: is a YAML alias"}},
		"alias as a name":         {head + "env: {&k A: b, *k : c}\n", []string{"a.yaml:4:7: env: has a YAML anchor", "a.yaml:4:16: env: is a YAML alias"}},
		"merge key":               {head + "env: {<<: {A: b}}\n", []string{"a.yaml:4:7: env: has a YAML merge key"}},
		"tag":                     {head + "user: !!str 1\nlabels: !x {a: b}\n", []string{"a.yaml:4:7: user: has the YAML tag !!str", "a.yaml:5:9: labels: has the YAML tag !x"}},
		"list as a name":          {head + "? [a, b]\n: c\n", []string{"a.yaml:4:3: has a list for a name (yaml.key)"}},
		"repeated and unknown":    {head + "app: b\nfoo: 1\nfoo: 2\n", []string{"a.yaml:4:1: app: is given twice, first on line 1", "a.yaml:5:1: foo: is no field here", "a.yaml:6:1: foo: is given twice, first on line 5"}},
		"NUL":                     {head + "workdir: \"/a\\0\"\ncommand: [\"\\0\"]\nlabels: {\"a\\0\": \"\\0\"}\n", []string{"a.yaml:4:10: workdir: must not contain a NUL byte", "a.yaml:5:11: command[0]: must not contain a NUL byte", `a.yaml:6:10: labels["a\x00"]: the name must not contain a NUL byte`, `a.yaml:6:17: labels["a\x00"]: must not contain a NUL byte`}},
		"two documents":           {head + "---\napp: b\n", []string{"a.yaml:4:1: holds a second document"}},
		"second is broken":        {head + "---\n[\n", []string{"a.yaml:"}},
		"not YAML":                {"app: a\nimage: {ref: b\nkind: job\n", []string{"a.yaml:2:1: is no valid YAML: did not find expected ',' or '}'"}},
		"tab":                     {"app: a\nimage:\n\tref: b\n", []string{"a.yaml:3:1: is no valid YAML: found character that cannot start any token (indent with spaces, not tabs"}},
		"bad indent":              {"app: a\nimage:\n   ref: b\n  env: {}\n", []string{"a.yaml:4:1: is no valid YAML: did not find expected key (is a line of this group indented"}},
		"colon in a value":        {"app: a\nuser: a: b\n", []string{"a.yaml:2:1: is no valid YAML: mapping values are not allowed in this context (is it indented"}},
		"empty":                   {"", []string{"a.yaml:1:1: says nothing (file.empty)"}},
		"comments":                {"# nothing\n", []string{"a.yaml:1:1: says nothing (file.empty)"}},
		"null":                    {"---\n~\n", []string{"a.yaml:1:1: says nothing (file.empty)"}},
		"scalar":                  {"hello\n", []string{"a.yaml:1:1: must be a launch spec or an app file, not a single value (field.type)"}},
		"not text":                {"app: a\nx: ä\xff\n", []string{"a.yaml:2:5: is not UTF-8 text (file.text)"}},
		"deep":                    {head + "env: " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "\n", []string{"a.yaml:4:6: env: must be a group of names", "a.yaml:4:38: env" + strings.Repeat("[0]", 32) + ": nests deeper than 32 levels (file.depth)"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := launchspec.Parse("a.yaml", []byte(tt.text), variables())
			checkProblems(t, err, tt.want...)
		})
	}
}

// A file must not cost much more than it is long.
func TestBombs(t *testing.T) {
	laughs := "a: &a [x]\n"
	for i := range 30 {
		laughs += fmt.Sprintf("b%d: &b%d [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n", i, i)
	}
	var env strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&env, "    K%d: v\n", i)
	}
	many := "app: a\ndefaults:\n  image: {ref: b}\n  env:\n" + env.String() + "functions:\n"
	for i := range 100 {
		many += fmt.Sprintf("- function: f%d\n", i)
	}
	tests := map[string]struct{ text, want string }{
		"a billion laughs":    {laughs, "yaml.alias"},
		"brackets":            {strings.Repeat("[", 1<<20), "yaml.syntax"},
		"dashes":              {strings.Repeat("- ", 1<<20), "yaml.syntax"},
		"question marks":      {strings.Repeat("? ", 1<<20), "yaml.syntax"},
		"unknown fields":      {"x: [" + strings.Repeat("1,", 200_000) + "]", "file.size"},
		"defaults multiplied": {many, "file.size"},
		"a huge file":         {strings.Repeat("#", 5<<20), "file.size"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := launchspec.Parse("a.yaml", []byte(tt.text), variables())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.300v, want %s", err, tt.want)
			}
		})
	}
}
