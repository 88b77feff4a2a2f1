package inject_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/purserd/purser/inject"
)

const canary = "hunter2-hunter2-hunter2"

// forms are all the ways in which a secret may lie in what is printed.
var forms = []string{
	canary,
	fmt.Sprintf("%x", canary),
	fmt.Sprintf("%X", canary),
	strings.Trim(fmt.Sprint([]byte(canary)), "[]"),
	strings.Trim(fmt.Sprintf("%#v", []byte(canary)), "[]byte{}"),
	"aHVudGVyMi1odW50ZXIyLWh1bnRlcjI",
}

func TestNothingPrintsSecrets(t *testing.T) {
	value := inject.NewValue([]byte(canary))
	environ := inject.Merge(inject.Layers{Env: map[string]string{"A": canary}})
	// fmt calls no methods on what lies in unexported fields.
	type hiding struct {
		value   inject.Value
		environ inject.Environ
	}
	type showing struct {
		Value   inject.Value
		Pointer *inject.Value
		Environ inject.Environ
		List    []inject.Value
		Map     map[string]inject.Value
	}
	things := map[string]any{
		"value":   value,
		"pointer": &value,
		"environ": environ,
		"hiding":  hiding{value, environ},
		"showing": showing{value, &value, environ, []inject.Value{value}, map[string]inject.Value{"a": value}},
		"secret":  &inject.Secret{Name: "s", Data: map[string]inject.Value{"A": value}},
		"var":     inject.Var{Name: "A", Key: "A", Value: value},
	}
	for name, thing := range things {
		for how, print := range printers() {
			t.Run(name+"/"+how, func(t *testing.T) {
				out := print(thing)
				for _, form := range forms {
					if strings.Contains(out, form) {
						t.Errorf("the value is in %q", out)
					}
				}
			})
		}
	}
}

// printers tolerate errors: not every encoder takes every type, but none may print
// a value, in its error either.
func printers() map[string]func(any) string {
	printers := map[string]func(any) string{
		"json": func(v any) string { b, err := json.Marshal(v); return fmt.Sprint(string(b), err) },
		"xml":  func(v any) string { b, err := xml.Marshal(v); return fmt.Sprint(string(b), err) },
		"yaml": func(v any) string { b, err := yaml.Marshal(v); return fmt.Sprint(string(b), err) },
		"gob": func(v any) string {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return fmt.Sprint(b.String(), err)
		},
		"error": func(v any) string { return fmt.Errorf("failed with %v", v).Error() },
		"text": func(v any) string {
			var b bytes.Buffer
			slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v)
			return b.String()
		},
		"log": func(v any) string {
			var b bytes.Buffer
			slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v)
			return b.String()
		},
		"sprint": func(v any) string { return fmt.Sprint(v) },
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%10v", "%p"} {
		printers[verb] = func(v any) string { return fmt.Sprintf(verb, v) }
	}
	return printers
}

func TestValueShowsThatItIsRedacted(t *testing.T) {
	value := inject.NewValue([]byte(canary))
	for how, got := range map[string]string{
		"%v": fmt.Sprintf("%v", value), "%+v": fmt.Sprintf("%+v", value), "%#v": fmt.Sprintf("%#v", value), "%x": fmt.Sprintf("%x", value),
		"String": value.String(), "GoString": value.GoString(), "LogValue": value.LogValue().String(),
	} {
		if got != "[redacted]" {
			t.Errorf("%s gives %q", how, got)
		}
	}
	if got, err := json.Marshal(value); err != nil || string(got) != `"[redacted]"` {
		t.Errorf("JSON is %s, %v", got, err)
	}
}

func TestValueIsIndependentOfWhatItWasMadeFrom(t *testing.T) {
	source := []byte("abc")
	value := inject.NewValue(source)
	clear(source)
	first := value.Reveal()
	clear(first)
	if got := value.Reveal(); string(got) != "abc" {
		t.Errorf("the value became %q", got)
	}
}

func TestValueEqual(t *testing.T) {
	var zero inject.Value
	a, b, c := inject.NewValue([]byte("a")), inject.NewValue([]byte("a")), inject.NewValue([]byte("ab"))
	for _, test := range []struct {
		name string
		a, b inject.Value
		want bool
	}{
		{"same bytes", a, b, true},
		{"prefix", a, c, false},
		{"zero and empty", zero, inject.NewValue(nil), true},
		{"zero and something", zero, a, false},
	} {
		if got := test.a.Equal(test.b); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

func TestWipe(t *testing.T) {
	value := inject.NewValue([]byte("abc"))
	same := value
	value.Wipe()
	if same.Len() != 0 || len(same.Reveal()) != 0 {
		t.Errorf("a copy of a wiped value still holds %d bytes", same.Len())
	}
	inject.Value{}.Wipe()
}
