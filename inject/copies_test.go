package inject_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/purserd/purser/inject"
)

// shelf is an Inventory that counts what it is asked to open.
type shelf struct {
	memory
	sequence uint64
	opened   int
	damaged  inject.Version
}

func (s *shelf) Get(ctx context.Context, environment, name string, version uint32) (*inject.Secret, error) {
	s.opened++
	if s.damaged == (inject.Version{Secret: name, Number: version}) {
		return nil, errors.New("damaged")
	}
	return s.memory.Get(ctx, environment, name, version)
}

func (s *shelf) Sequence() uint64 { return s.sequence }

func (s *shelf) Kept(environment string) []inject.Version {
	var all []inject.Version
	for name, versions := range s.memory {
		for _, v := range versions {
			if environment == "dev" {
				all = append(all, inject.Version{Secret: name, Number: v.Version})
			}
		}
	}
	return all
}

func (s *shelf) set(name string, versions ...inject.Secret) {
	s.memory[name] = versions
	s.sequence++
}

// wantFound checks what is found in dev: "SECRET/KEY", or nothing.
func wantFound(t *testing.T, copies *inject.Copies, text, want string) {
	t.Helper()
	secret, key, found, err := copies.Find(t.Context(), "dev", text)
	got := ""
	if found {
		got = secret + "/" + key
	}
	if err != nil || got != want {
		t.Errorf("in %q is found %q, %v; want %q", text, got, err, want)
	}
}

const (
	long  = "a-value-of-24-bytes-long"
	other = "a-value-of-24-bytes-of-another-kind"
	short = "15-bytes-long.."
)

func TestFindCopies(t *testing.T) {
	s := &shelf{memory: memory{}}
	s.set("s", version(1, "OLD="+long), deleted(version(2, "NEW="+other, "SHORT="+short)))
	copies := inject.NewCopies(s)
	for text, want := range map[string]string{
		"":                         "",
		long:                       "s/OLD",
		"x" + long + "y":           "s/OLD",
		"--key=" + other:           "s/NEW",
		long[1:] + long[:23]:       "",
		strings.Repeat(long, 1000): "s/OLD",
		short + short:              "",
		long[:16]:                  "",
	} {
		wantFound(t, copies, text, want)
	}
	if _, _, found, err := copies.Find(t.Context(), "prod", long); found || err != nil {
		t.Errorf("a value of dev is found in prod: %v, %v", found, err)
	}
}

func TestCopiesFollowTheInventory(t *testing.T) {
	s := &shelf{memory: memory{}}
	copies := inject.NewCopies(s)
	s.set("s", version(1, "A="+long))
	if err := copies.Learn(t.Context(), "dev"); err != nil {
		t.Fatal(err)
	}
	s.set("s", version(1, "A="+long), version(2, "A="+other))
	wantFound(t, copies, long, "s/A")
	wantFound(t, copies, other, "s/A")
	if s.opened != 2 {
		t.Errorf("2 versions were opened %d times", s.opened)
	}
	s.set("s", version(2, "A="+other))
	wantFound(t, copies, long, "")
	wantFound(t, copies, other, "s/A")
	s.set("s")
	wantFound(t, copies, other, "")
}

func TestCopiesSkipWhatCannotBeOpened(t *testing.T) {
	s := &shelf{memory: memory{}, damaged: inject.Version{Secret: "a", Number: 1}}
	copies := inject.NewCopies(s)
	s.set("a", version(1, "A="+long))
	s.set("b", version(1, "B="+other))
	wantFound(t, copies, long, "")
	wantFound(t, copies, other, "b/B")
	s.damaged = inject.Version{}
	s.sequence++
	wantFound(t, copies, long, "a/A")
}

func TestCopiesSayWhenTheyCouldNotLook(t *testing.T) {
	s := &shelf{memory: memory{}}
	copies := inject.NewCopies(s)
	s.set("s", version(1, "A="+long))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := copies.Find(ctx, "dev", long); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantFound(t, copies, long, "s/A")
}

// Whatever is set and deleted in between: a text has a copy in it when it contains
// any value that is long enough.
func TestCopiesAreWhatTheTextContains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &shelf{memory: memory{}}
		copies := inject.NewCopies(s)
		// Few letters, so that values begin alike and overlap.
		letters := rapid.StringMatching(`[ab]{14,24}`)
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			name := rapid.SampledFrom([]string{"s", "t", "u"}).Draw(t, "secret")
			number := uint32(rapid.IntRange(1, 9).Draw(t, "number")) + uint32(s.sequence)*10
			kept := rapid.IntRange(0, len(s.memory[name])).Draw(t, "kept")
			s.set(name, append(slices.Clone(s.memory[name][:kept]), version(number, "A="+letters.Draw(t, "A"), "B="+letters.Draw(t, "B")))...)

			text := rapid.StringMatching(`[ab]{0,80}`).Draw(t, "text")
			if rapid.Bool().Draw(t, "with a value") {
				text += letters.Draw(t, "text A") + string(s.memory[name][0].Data["A"].Reveal()) + text
			}
			secret, key, found, err := copies.Find(t.Context(), "dev", text)
			if err != nil {
				t.Fatal(err)
			}
			if want := contained(s.memory, text); found != (len(want) > 0) || found && !slices.Contains(want, secret+"/"+key) {
				t.Fatalf("found %v %s/%s in %q, want one of %q", found, secret, key, text, want)
			}
		}
	})
}

// contained says the same as Find in the obvious way.
func contained(m memory, text string) []string {
	var all []string
	for name, versions := range m {
		for _, v := range versions {
			for key, value := range v.Data {
				if plain := string(value.Reveal()); len(plain) >= 16 && strings.Contains(text, plain) {
					all = append(all, name+"/"+key)
				}
			}
		}
	}
	return all
}

// BenchmarkFind looks through a text of 4 KiB in an environment of 1000 values.
func BenchmarkFind(b *testing.B) {
	s := &shelf{memory: memory{}}
	for i := range 1000 {
		s.set(fmt.Sprint("s", i), version(1, fmt.Sprintf("A=value-%020d-of-some-length", i)))
	}
	copies := inject.NewCopies(s)
	text := strings.Repeat("a usual line of a launch spec: ", 132)
	for b.Loop() {
		if _, _, found, err := copies.Find(b.Context(), "dev", text); found || err != nil {
			b.Fatal(found, err)
		}
	}
}
