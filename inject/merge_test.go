package inject_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/purserd/purser/inject"
)

func secretOf(name string, pairs ...string) inject.Resolved {
	secret := inject.Resolved{Name: name, Version: 1}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		secret.Vars = append(secret.Vars, inject.Var{Name: key, Key: key, Value: inject.NewValue([]byte(value))})
	}
	return secret
}

func TestMerge(t *testing.T) {
	environ := inject.Merge(inject.Layers{
		Image:    []string{"PATH=/bin", "A=image", "B=image", "C=image", "D=image", "E=image", "F=first", "F=second", "G=a=b", "UNSET", "=nameless", "PURSER_X=forged"},
		ImageEnv: map[string]string{"B": "image.env", "C": "image.env", "D": "image.env", "E": "image.env"},
		Secrets:  []inject.Resolved{secretOf("one", "C=one", "D=one", "E=one"), secretOf("two", "D=two", "E=two", "PURSER_Y=forged")},
		Env:      map[string]string{"E": "env", "EMPTY": "", "PURSER_APP": "forged", "PURSER_Z": "forged"},
		Reserved: map[string]string{"PURSER_APP": "app"},
	})
	want := []string{"A=image", "B=image.env", "C=one", "D=two", "E=env", "EMPTY=", "F=second", "G=a=b", "PATH=/bin", "PURSER_APP=app"}
	if got := whole(environ); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMergeOfNothing(t *testing.T) {
	environ := inject.Merge(inject.Layers{})
	if got := whole(environ); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	if _, ok := environ.Lookup("A"); ok {
		t.Error("found a variable")
	}
	if _, ok := environ.Origin("A"); ok {
		t.Error("found an origin")
	}
}

func TestEnvironTellsWhereVariablesComeFrom(t *testing.T) {
	environ := inject.Merge(inject.Layers{
		Image:    []string{"A=1"},
		ImageEnv: map[string]string{"B": "2"},
		Secrets:  []inject.Resolved{{Name: "s", Vars: []inject.Var{{Name: "C", Key: "KEY", Value: inject.NewValue([]byte("3"))}}}},
		Env:      map[string]string{"D": "4"},
		Reserved: map[string]string{"PURSER_E": "5"},
	})
	for name, want := range map[string]inject.Origin{
		"A": {Layer: inject.LayerImage}, "B": {Layer: inject.LayerImageEnv}, "C": {Layer: inject.LayerSecret, Secret: "s", Key: "KEY"},
		"D": {Layer: inject.LayerEnv}, "PURSER_E": {Layer: inject.LayerReserved},
	} {
		if got, ok := environ.Origin(name); !ok || got != want {
			t.Errorf("%s comes from %+v, %v", name, got, ok)
		}
	}
	if value, ok := environ.Lookup("C"); !ok || string(value.Reveal()) != "3" {
		t.Errorf("C is not there or wrong")
	}
}

func TestEnvironTellsWhatIsHidden(t *testing.T) {
	environ := inject.Merge(inject.Layers{
		Image:   []string{"A=image", "B=image"},
		Secrets: []inject.Resolved{secretOf("one", "A=1", "B=1", "C=1"), secretOf("two", "A=2", "B=2")},
		Env:     map[string]string{"A": "env"},
	})
	byEnv := inject.Origin{Layer: inject.LayerEnv}
	byTwo := inject.Origin{Layer: inject.LayerSecret, Secret: "two", Key: "B"}
	want := []inject.Hidden{
		{Variable: "A", Secret: "one", Key: "A", By: byEnv},
		{Variable: "A", Secret: "two", Key: "A", By: byEnv},
		{Variable: "B", Secret: "one", Key: "B", By: byTwo},
	}
	if got := environ.Hidden(); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := byEnv.String() + ", " + byTwo.String(); got != "env, secret two" {
		t.Errorf("origins read %q", got)
	}
}

// The merge agrees with assigning layer by layer, and has every variable once, sorted.
func TestMergePrecedence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layers := drawLayers(t)
		want := assign(layers)
		environ := inject.Merge(layers)
		got := whole(environ)
		if !slices.IsSorted(got) || len(got) != len(want) {
			t.Fatalf("got %q, want %d variables", got, len(want))
		}
		for _, assignment := range got {
			name, value, _ := strings.Cut(assignment, "=")
			if expected, ok := want[name]; !ok || value != expected.value {
				t.Fatalf("%s is %q, want %q", name, value, expected.value)
			}
			if origin, _ := environ.Origin(name); origin.Layer != want[name].layer {
				t.Fatalf("%s comes from %v, want %v", name, origin, want[name].layer)
			}
		}
		if again := whole(inject.Merge(layers)); !slices.Equal(got, again) {
			t.Fatalf("first %q, then %q", got, again)
		}
	})
}

// What is hidden is exactly what the secrets set and the container does not get
// from them.
func TestMergeHidden(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layers := drawLayers(t)
		environ := inject.Merge(layers)
		hidden := map[[2]string]bool{}
		for _, h := range environ.Hidden() {
			if winner, _ := environ.Origin(h.Variable); winner != h.By {
				t.Fatalf("%s is hidden by %v, but comes from %v", h.Variable, h.By, winner)
			}
			hidden[[2]string{h.Secret, h.Key}] = true
		}
		for _, secret := range layers.Secrets {
			for _, v := range secret.Vars {
				origin, _ := environ.Origin(v.Name)
				delivered := origin == inject.Origin{Layer: inject.LayerSecret, Secret: secret.Name, Key: v.Key}
				if delivered == hidden[[2]string{secret.Name, v.Key}] {
					t.Fatalf("key %s of %s: delivered and hidden are both %v", v.Key, secret.Name, delivered)
				}
			}
		}
	})
}

type assigned struct {
	value string
	layer inject.Layer
}

// assign is the model that Merge is held against.
func assign(layers inject.Layers) map[string]assigned {
	env := map[string]assigned{}
	for _, a := range layers.Image {
		name, value, _ := strings.Cut(a, "=")
		env[name] = assigned{value, inject.LayerImage}
	}
	for name, value := range layers.ImageEnv {
		env[name] = assigned{value, inject.LayerImageEnv}
	}
	for _, secret := range layers.Secrets {
		for _, v := range secret.Vars {
			env[v.Name] = assigned{string(v.Value.Reveal()), inject.LayerSecret}
		}
	}
	for name, value := range layers.Env {
		env[name] = assigned{value, inject.LayerEnv}
	}
	for name, value := range layers.Reserved {
		env[name] = assigned{value, inject.LayerReserved}
	}
	return env
}

func drawLayers(t *rapid.T) inject.Layers {
	names := rapid.SampledFrom([]string{"A", "B", "C", "D", "E"})
	values := rapid.StringMatching(`[a-z=]{0,4}`)
	variables := rapid.MapOfN(names, values, 0, 5)
	layers := inject.Layers{
		ImageEnv: variables.Draw(t, "image.env"),
		Env:      variables.Draw(t, "env"),
		Reserved: map[string]string{"PURSER_APP": values.Draw(t, "app")},
	}
	for range rapid.IntRange(0, 5).Draw(t, "image variables") {
		layers.Image = append(layers.Image, names.Draw(t, "name")+"="+values.Draw(t, "value"))
	}
	for _, name := range []string{"one", "two", "three"} {
		var pairs []string
		for key, value := range variables.Draw(t, name) {
			pairs = append(pairs, key+"="+value)
		}
		slices.Sort(pairs)
		layers.Secrets = append(layers.Secrets, secretOf(name, pairs...))
	}
	return layers
}

// whole is all of an environment, sorted by name.
func whole(e inject.Environ) []string {
	all := append(e.Public(), e.Secret()...)
	slices.SortFunc(all, func(a, b string) int {
		x, _, _ := strings.Cut(a, "=")
		y, _, _ := strings.Cut(b, "=")
		return strings.Compare(x, y)
	})
	return all
}
