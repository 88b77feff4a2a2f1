package main

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// plaintext is where the value of a secret first is a plain string or slice of
// bytes: functions that return one or show one to a function, fields that hold one,
// and types of functions that return one. Names are relative to this module.
var plaintext = []string{
	"inject.Value.Reveal",
	"inject.Value.use", // to its argument
	"inject.Environ.Secret",
	"inject/redact.Value.Reveal",
	"inject/store.contents.Data",   // what a sealed file holds,
	"inject/store.contents.Binary", // decoded
	"inject/store.contents.encode",
	"filippo.io/age.Decrypt",
	"runtime/registry.credentials",
	"runtime/handover.Complete", // makes the complete specification
	"api/purser/v1.PutRequest.Data",
	"api/purser/v1.PutRequest.GetData",
	"cli.argument.value",
	"cli.secretData.values",
	"cli.readStdinValue",
	"api/secretfile.ParseDotenv",
	"api/secretfile.ParseDotenvAs",
	"api/secretfile.ParseJSON",
	"api/secretfile.ParseJSONAs",
	"api/secretfile.ParseYAML",
	"api/secretfile.ParseYAMLAs",
	"api/secretfile.Names.Key", // of a name, which may be a value by mistake
	"api/secretfile.valueOf",
	"inject/dir.held.read",
}

// cleared are functions that use plain values and return none, for a reason that
// the types do not show.
var cleared = []string{
	"inject.Environ.Public", // leaves out what comes from secrets
	"runtime/handover.Spec", // these two return a Complete
	"runtime/handover.Process",
	"runtime/registry.Login.credentials", // returns credentials
}

// injectionPath are the files, and the directories with all below them, where a
// secret's value may be in plain.
var injectionPath = map[string]string{
	"inject":                    "holds, checks and seals values",
	"runtime/environ.go":        "gives a container's variables to the handover",
	"runtime/registry/login.go": "gives a registry its credentials",
	"runtime/handover":          "completes the specification, in memory that no disk sees",
	"agent/server/services.go":  "takes a request to set a secret",
	"agent/secrets.go":          "makes Values of it",
	"api/secretfile":            "parses files that secrets are kept in",
	"cli/askvalue.go":           "asks for a value on a terminal",
	"cli/secretdata.go":         "reads what is to be set",
	"cli/bounded.go":            "reads it, up to a limit",
	"cli/secretset.go":          "sends it to the agent",
	"bench/secret.go":           "sends the agent one that it makes up",
}

// pure are packages and functions that keep nothing of their arguments and show it
// to nobody. What they return of a plain value is plain.
var pure = []string{
	"bytes", "crypto/subtle", "encoding/base64", "encoding/binary", "encoding/hex", "hash/maphash", "maps", "slices", "strings", "unicode/utf8",
	"encoding/json.Marshal", "encoding/json.Unmarshal",
	"encoding/json.NewDecoder", "(*encoding/json.Decoder).Decode", "(*encoding/json.Decoder).DisallowUnknownFields", "(*encoding/json.Decoder).Token",
	"(*encoding/json.Decoder).UseNumber", "(*encoding/json.Decoder).More", "(*encoding/json.Decoder).InputOffset",
	"go.yaml.in/yaml/v3.NewDecoder", "(*go.yaml.in/yaml/v3.Decoder).Decode",
	"io.ReadAll", "runtime.KeepAlive",
}

// handedOver are the calls that take a plain value off this program's hands, by the
// file in which they may be made.
var handedOver = map[string]string{
	"inject/redact/matcher.go: runtime.AddCleanup":                                                        "wipes it",
	"inject/value.go: runtime.AddCleanup":                                                                 "wipes it",
	"inject/copies.go: (io.Writer).Write":                                                                 "a keyed hash",
	"inject/changes.go: (io.Writer).Write":                                                                "a keyed hash",
	"inject/files.go: (*encoding/json.Encoder).Encode":                                                    "into memory",
	"inject/files.go: (*bytes.Buffer).Write":                                                              "into memory",
	"inject/files.go: (*bytes.Buffer).WriteByte":                                                          "into memory",
	"inject/write.go: (*os.File).Write":                                                                   "to a private mount",
	"inject/redactions.go: os.WriteFile":                                                                  "to a private mount",
	"inject/store/sealed.go: (*encoding/json.Encoder).Encode":                                             "into memory",
	"inject/store/sealed.go: (io.Writer).Write":                                                           "age seals it",
	"runtime/handover/server.go: (*os.File).Write":                                                        "a file without a name, in memory",
	"runtime/registry/login.go: (*github.com/docker/cli/cli/config/configfile.ConfigFile).LoadFromReader": "in memory, for one request",
	"api/secretfile/doc.go: (*regexp.Regexp).MatchString":                                                 "is it a key?",
	"api/secretfile/doc.go: fmt.Errorf":                                                                   "the key, which is no value",
	"api/secretfile/json.go: fmt.Errorf":                                                                  "the key, which is no value",
	"api/secretfile/dotenv.go: github.com/compose-spec/compose-go/v2/dotenv.ParseWithLookup":              "in memory",
	"cli/askvalue.go: fmt.Fprintf":                                                                        "the key, which is no value",
	"cli/secretset.go: connectrpc.com/connect.NewRequest":                                                 "to the agent",
	"bench/secret.go: connectrpc.com/connect.NewRequest":                                                  "to the agent",
	"cli/bounded.go: os.Open":                                                                             "the path of K=@FILE, which is no value",
}

// Plain values of secrets stay within package inject and the injection path: they
// come out of an [inject.Value] nowhere else, and on the path nothing prints, logs
// or puts them into an error, keeps them where others can see them, or returns them
// from an exported function that is not known to.
func TestPlaintextStaysOnTheInjectionPath(t *testing.T) {
	m := loaded(t)
	f := newFlow(t, m)
	for _, leak := range f.run(m.files) {
		t.Error(leak)
	}
	for place := range injectionPath {
		if !f.used[place] {
			t.Errorf("%s is on the injection path and has no plain value: take it off", place)
		}
	}
	for call := range handedOver {
		if !f.used[call] {
			t.Errorf("nothing is handed over by %s: take it off", call)
		}
	}
}

// The fixtures say in a comment at each line that leaks how it does. What is in
// directory "on" counts as on the injection path.
func TestPlaintextIsSeenToLeak(t *testing.T) {
	m := loaded(t)
	for _, name := range []string{"on/leaks.go", "on/fine.go", "off/leaks.go", "off/fine.go"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata/border", name)
			file, err := m.parse(path)
			if err != nil {
				t.Fatal(err)
			}
			f := newFlow(t, m)
			f.path["testdata/border/on"] = "the fixtures"
			f.handed = map[string]string{"testdata/border/on/fine.go: (*os.File).Write": ""}
			got := f.run([]*ast.File{file})
			if want := expected(t, path); !slices.Equal(got, want) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
		})
	}
}

// expected are the leaks that a fixture has by its own account.
func expected(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	line := 0
	for s := range strings.Lines(string(text)) {
		line++
		if _, leak, ok := strings.Cut(strings.TrimSpace(s), "// leak: "); ok {
			all = append(all, fmt.Sprintf("%s:%d: a secret's value is %s", name, line, leak))
		}
	}
	return all
}

var load = sync.OnceValues(loadModule)

func loaded(t *testing.T) *sources {
	t.Helper()
	m, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newFlow(t *testing.T, m *sources) *flow {
	t.Helper()
	f := &flow{sources: m, path: maps.Clone(injectionPath), handed: maps.Clone(handedOver)}
	if err := f.begin(plaintext, cleared); err != nil {
		t.Fatal(err)
	}
	return f
}
