package launchspec_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestInheritance(t *testing.T) {
	tests := map[string]struct{ defaults, function, want string }{
		"nothing of its own":         {`{user: u, image: {ref: b}}`, `{}`, `{"user": "u", "image": {"ref": "b"}}`},
		"a value wins":               {`{user: u, image: {ref: b}}`, `{user: v}`, `{"user": "v", "image": {"ref": "b"}}`},
		"an empty value wins":        {`{image: {ref: b}, read_only_root: true, labels: {a: b}}`, `{read_only_root: false, labels: {a: ""}}`, `{"image": {"ref": "b"}, "read_only_root": false, "labels": {"a": ""}}`},
		"null is absent":             {`{image: {ref: b}, user: u, env: {A: b}}`, `{user: null, env: null, image: ~}`, `{"image": {"ref": "b"}, "user": "u", "env": {"A": "b"}}`},
		"null default":               {`{image: {ref: b}, user: null, stop: null}`, `{user: u, stop: {signal: INT}}`, `{"image": {"ref": "b"}, "user": "u", "stop": {"signal": "INT"}}`},
		"groups by field":            {`{image: {ref: b, env: {A: "1", B: "1"}}}`, `{image: {env: {B: "2", C: "2"}}}`, `{"image": {"ref": "b", "env": {"A": "1", "B": "2", "C": "2"}}}`},
		"an empty group adds none":   {`{image: {ref: b}, stop: {signal: INT}}`, `{stop: {}}`, `{"image": {"ref": "b"}, "stop": {"signal": "INT"}}`},
		"maps by name":               {`{image: {ref: b}, env: {A: "1", B: "1"}}`, `{env: {B: "2", C: "2"}}`, `{"image": {"ref": "b"}, "env": {"A": "1", "B": "2", "C": "2"}}`},
		"lists replace":              {`{image: {ref: b}, command: [a, b], args: [c]}`, `{command: [d]}`, `{"image": {"ref": "b"}, "command": ["d"], "args": ["c"]}`},
		"an empty list replaces":     {`{image: {ref: b}, command: [a, b]}`, `{command: []}`, `{"image": {"ref": "b"}}`},
		"devices replace":            {`{image: {ref: b}, resources: {cpu: 1, devices: [v/c=0, v/c=1]}}`, `{resources: {devices: [v/c=2], pids: 5}}`, `{"image": {"ref": "b"}, "resources": {"cpu": 1, "pids": 5, "devices": ["v/c=2"]}}`},
		"devices inherited":          {`{image: {ref: b}, resources: {devices: [v/c=0]}}`, `{resources: {pids: 5}}`, `{"image": {"ref": "b"}, "resources": {"pids": 5, "devices": ["v/c=0"]}}`},
		"mounts replace":             {`{image: {ref: b}, mounts: [{source: /a, target: /a}]}`, `{mounts: [{type: tmpfs, target: /b}]}`, `{"image": {"ref": "b"}, "mounts": [{"type": "tmpfs", "target": "/b"}]}`},
		"probes by field":            {`{image: {ref: b}, probes: {live: {tcp: {port: 1}, period: 1s}}}`, `{probes: {ready: {tcp: {port: 2}}, live: {failures: 5}}}`, `{"image": {"ref": "b"}, "probes": {"ready": {"tcp": {"port": 2}}, "live": {"tcp": {"port": 1}, "period": "1s", "failures": 5}}}`},
		"another way replaces":       {`{image: {ref: b}, probes: {live: {tcp: {port: 1}, period: 1s}}}`, `{probes: {live: {http: {port: 2}}}}`, `{"image": {"ref": "b"}, "probes": {"live": {"http": {"port": 2}, "period": "1s"}}}`},
		"no way replaces none":       {`{image: {ref: b}, probes: {live: {tcp: {port: 1}}}}`, `{probes: {live: {http: null}}}`, `{"image": {"ref": "b"}, "probes": {"live": {"tcp": {"port": 1}}}}`},
		"secrets concatenate":        {`{image: {ref: b}, secrets: [{name: one}, {name: two}]}`, `{secrets: [{name: three}]}`, `{"image": {"ref": "b"}, "secrets": [{"name": "one"}, {"name": "two"}, {"name": "three"}]}`},
		"no secrets add none":        {`{image: {ref: b}, secrets: [{name: one}]}`, `{secrets: []}`, `{"image": {"ref": "b"}, "secrets": [{"name": "one"}]}`},
		"a secret replaced in place": {`{image: {ref: b}, secrets: [{name: one, prefix: A_, required_keys: [K]}, {name: two}]}`, `{secrets: [{name: three}, {name: one, version: 3}]}`, `{"image": {"ref": "b"}, "secrets": [{"name": "one", "version": 3}, {"name": "two"}, {"name": "three"}]}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := mustParse(t, "app: a\ndefaults: "+tt.defaults+"\nfunctions:\n- "+withFunction(tt.function)+"\n")
			want := spec(t, tt.want)
			want.App, want.Function = ptr("a"), ptr("f")
			sameSpec(t, file.Specs[0], want)
		})
	}
}

func withFunction(flow string) string {
	return strings.TrimSuffix(strings.Replace(flow, "{", "{function: f, ", 1), "}") + "}"
}

func TestFunctionsDoNotShare(t *testing.T) {
	file := mustParse(t, `
app: a
defaults: {image: {ref: b, env: {A: "0"}}, secrets: [{name: s}], labels: {x: "0"}}
functions:
- {function: f, image: {env: {A: "1"}}, secrets: [{name: s, version: 1}], labels: {x: "1"}}
- {function: g, image: {env: {A: "2"}}, secrets: [{name: t}]}
- {function: h}
`)
	file.Specs[0].Image.Env["A"] = "changed"
	sameSpec(t, file.Specs[2], spec(t, `{"app": "a", "function": "h", "image": {"ref": "b", "env": {"A": "0"}}, "secrets": [{"name": "s"}], "labels": {"x": "0"}}`))
	sameSpec(t, file.Specs[1], spec(t, `{"app": "a", "function": "g", "image": {"ref": "b", "env": {"A": "2"}}, "secrets": [{"name": "s"}, {"name": "t"}], "labels": {"x": "0"}}`))
}

// drawSpec makes a valid spec of a random choice of fields.
func drawSpec(t *rapid.T, label string) *purserv1.LaunchSpec {
	name := rapid.SampledFrom([]string{"A", "B", "C"})
	text := rapid.StringMatching(`[ -#%-~ä😀]{0,8}`)
	words := rapid.SliceOfN(text, 0, 3)
	maybe := func(field string) bool { return rapid.Bool().Draw(t, label+field) }
	env := rapid.MapOfN(name, text, 0, 3)
	s := &purserv1.LaunchSpec{Command: words.Draw(t, label+"command"), Env: env.Draw(t, label+"env")}
	if maybe("user") {
		s.User = ptr(rapid.SampledFrom([]string{"1000", "app", "1:2"}).Draw(t, label+"user name"))
	}
	if maybe("root") {
		s.ReadOnlyRoot = ptr(rapid.Bool().Draw(t, label+"read only"))
	}
	if maybe("stop") {
		s.Stop = &purserv1.Stop{Signal: ptr(rapid.SampledFrom([]string{"INT", "15"}).Draw(t, label+"signal"))}
	}
	if maybe("grace") {
		s.Stop = cmp.Or(s.Stop, &purserv1.Stop{})
		s.Stop.Grace = ptr(rapid.SampledFrom([]string{"0", "1m0.5s"}).Draw(t, label+"grace value"))
	}
	for _, secret := range rapid.SliceOfNDistinct(name, 0, 3, rapid.ID[string]).Draw(t, label+"secrets") {
		s.Secrets = append(s.Secrets, &purserv1.SecretRef{Name: ptr(secret), Version: ptr(rapid.Uint32Range(1, 9).Draw(t, label+"version"))})
	}
	return s
}

// merged is inheritance as the contract words it, on messages.
func merged(defaults, function *purserv1.LaunchSpec) *purserv1.LaunchSpec {
	m := proto.CloneOf(defaults)
	secrets := m.Secrets
	for _, own := range function.Secrets {
		i := slices.IndexFunc(secrets, func(s *purserv1.SecretRef) bool { return s.GetName() == own.GetName() })
		if i >= 0 {
			secrets[i] = own
		} else {
			secrets = append(secrets, own)
		}
	}
	if len(function.Command) > 0 {
		m.Command = nil
	}
	m.Secrets = nil
	rest := proto.CloneOf(function)
	rest.Secrets = nil
	proto.Merge(m, rest)
	m.Secrets = secrets
	return m
}

// sparse writes only what is set; an empty list would replace.
func sparse(t *rapid.T, s *purserv1.LaunchSpec) []byte {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestInheritanceFollowsTheContract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		defaults, function := drawSpec(t, "default "), drawSpec(t, "function ")
		defaults.Image = &purserv1.Image{Ref: ptr("b")}
		function.Function = ptr("f")
		text := fmt.Sprintf(`{"app": "a", "defaults": %s, "functions": [%s]}`, sparse(t, defaults), sparse(t, function))
		file, err := launchspec.Parse("a.json", []byte(text), variables())
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		want := merged(defaults, function)
		want.App = ptr("a")
		if !proto.Equal(file.Specs[0], want) {
			t.Fatalf("%s\ngot  %v\nwant %v", text, file.Specs[0], want)
		}
	})
}
