package inject_test

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
	"text/template"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

	"github.com/purserd/purser/inject"
)

const canary = "hunter2-hunter2-hunter2"

// forms are all the ways in which a secret may lie in what is printed.
var forms = []string{
	canary,
	fmt.Sprintf("%x", canary),
	fmt.Sprintf("%X", canary),
	fmt.Sprintf("% x", canary),
	strings.Trim(fmt.Sprint([]byte(canary)), "[]"),
	strings.Trim(fmt.Sprintf("%#v", []byte(canary)), "[]byte{}"),
	strings.Trim(fmt.Sprintf("%o", []byte(canary)), "[]"),
	strings.Trim(fmt.Sprintf("%b", []byte(canary)), "[]"),
	strings.Trim(fmt.Sprintf("%c", []byte(canary)), "[]"),
	strings.Trim(fmt.Sprintf("%U", []byte(canary)), "[]"),
	"aHVudGVyMi1odW50ZXIyLWh1bnRlcjI", // base64
	"104, 117, 110, 116, 101, 114",    // an array of TOML or JSON
	"104,117,110,116,101,114",
}

// hiding has it in fields on which no package can call a method.
type hiding struct {
	value   inject.Value
	pointer *inject.Value
	list    []inject.Value
	array   [1]inject.Value
	byName  map[string]inject.Value
	any     any
	environ inject.Environ
	inner   struct{ value inject.Value }
}

// showing has it in fields that every encoder looks at.
type showing struct {
	Value     inject.Value
	Attribute inject.Value `xml:"attribute,attr"`
	Pointer   *inject.Value
	Environ   inject.Environ
	List      []inject.Value
	Pointers  []*inject.Value
	Array     [1]inject.Value
	Map       map[string]inject.Value `xml:"-"`
	Any       any
	Inner     struct{ Value inject.Value }
}

// embedding takes over the methods of a Value.
type embedding struct{ inject.Value }

// failure is an error with a Value.
type failure struct{ value inject.Value }

func (f failure) Error() string { return fmt.Sprintf("failed with %+v", f.value) }

func things() map[string]any {
	value := inject.NewValue([]byte(canary))
	environ := inject.Merge(inject.Layers{Env: map[string]string{"A": canary}})
	pointer, list, byName := &value, []inject.Value{value}, map[string]inject.Value{"a": value}
	return map[string]any{
		"value":     value,
		"pointer":   &pointer,
		"environ":   environ,
		"list":      list,
		"map":       byName,
		"hiding":    hiding{value, &value, list, [1]inject.Value{value}, byName, value, environ, struct{ value inject.Value }{value}},
		"showing":   &showing{value, value, &value, environ, list, []*inject.Value{&value}, [1]inject.Value{value}, byName, value, struct{ Value inject.Value }{value}},
		"embedding": embedding{value},
		"error":     fmt.Errorf("more: %w", failure{value}),
		"secret":    &inject.Secret{Name: "s", Data: byName},
		"var":       inject.Var{Name: "A", Key: "A", Value: value},
		"layers":    inject.Layers{Secrets: []inject.Resolved{{Name: "s", Vars: []inject.Var{{Name: "A", Value: value}}}}},
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	for name, thing := range things() {
		for how, print := range printers() {
			out := print(thing)
			for _, form := range forms {
				if strings.Contains(out, form) {
					t.Errorf("%s by %s: the value is in %q", name, how, out)
				}
			}
		}
	}
}

// printers tolerate errors: not every encoder takes every type, but none may print
// a value, in its error either.
func printers() map[string]func(any) string {
	encoded := func(encode func(any) ([]byte, error)) func(any) string {
		return func(v any) string { b, err := encode(v); return fmt.Sprint(string(b), err) }
	}
	written := func(write func(io.Writer, any) error) func(any) string {
		return func(v any) string {
			var b bytes.Buffer
			err := write(&b, v)
			return fmt.Sprint(b.String(), err)
		}
	}
	logged := func(handler func(io.Writer) slog.Handler) func(any) string {
		return written(func(w io.Writer, v any) error {
			log := slog.New(handler(w))
			log.Info("m", "v", v, slog.Group("g", "v", v), "list", []any{v})
			log.With("v", v).WithGroup("g").Info("m", "v", v)
			return nil
		})
	}
	printers := map[string]func(any) string{
		"json":     encoded(json.Marshal),
		"xml":      encoded(xml.Marshal),
		"yaml":     encoded(yaml.Marshal),
		"toml":     encoded(toml.Marshal),
		"gob":      written(func(w io.Writer, v any) error { return gob.NewEncoder(w).Encode(v) }),
		"binary":   written(func(w io.Writer, v any) error { return binary.Write(w, binary.BigEndian, v) }),
		"template": written(template.Must(template.New("").Parse("{{.}} {{printf `%#v` .}}")).Execute),
		"log":      logged(func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }),
		"json log": logged(func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }),
		"error":    func(v any) string { return fmt.Errorf("failed with %v", v).Error() },
		"panic":    recovered,
		"sprint":   func(v any) string { return fmt.Sprint(v) },
		"reflect":  func(v any) string { return readable(reflect.ValueOf(v)) },
	}
	for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
		for _, flags := range []string{"", "+", "#", "-", " ", "0", "40", "-40", ".3", "+#", "# ", "1.1", "[1]"} {
			format := "%" + flags + string(verb)
			printers[format] = func(v any) string { return fmt.Sprintf(format, v) }
		}
	}
	return printers
}

// recovered is what a handler of panics has to show.
func recovered(v any) (text string) {
	defer func() { r := recover(); text = fmt.Sprintf("%v %+v %#v %s", r, r, r, debug.Stack()) }()
	panic(v)
}

// readable is all that reflection gets out of a value without package unsafe, also
// of unexported fields.
func readable(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return v.String() + " "
	case reflect.Uint8:
		return fmt.Sprintf("%c", v.Uint())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return readable(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		text := ""
		for i := range v.Len() {
			text += readable(v.Index(i))
		}
		return text
	case reflect.Map:
		text := ""
		for _, key := range v.MapKeys() {
			text += readable(v.MapIndex(key))
		}
		return text
	case reflect.Struct:
		text := ""
		for i := range v.NumField() {
			text += readable(v.Field(i))
		}
		return text
	}
	return ""
}

// A panic that nobody recovers is printed by the Go runtime, which calls Error and
// String of what it is given. The test runs itself again to die of one.
func TestPanicShowsNoSecret(t *testing.T) {
	const which = "INJECT_TEST_PANIC"
	if name := os.Getenv(which); name != "" {
		panic(things()[name])
	}
	for name := range things() {
		dying := exec.Command(os.Args[0], "-test.run=^TestPanicShowsNoSecret$")
		dying.Env = append(os.Environ(), which+"="+name)
		out, err := dying.CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("panic: ")) {
			t.Errorf("%s: no panic: %v, %s", name, err, out)
		}
		for _, form := range forms {
			if bytes.Contains(out, []byte(form)) {
				t.Errorf("%s: the value is in %s", name, out)
			}
		}
	}
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
