package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// Nothing that prints or encodes shows a value, also from within a field.
func TestShowsNothing(t *testing.T) {
	const secret = "hunter22"
	v := value("s", secret)
	m := Compile([]Value{v})
	s := m.Stream()
	s.Append(nil, []byte(secret[:7]))
	type within struct {
		v Value
		m *Matcher
		s *Stream
		n Matcher
		r Stream
	}
	for _, x := range []any{v, m, s, []any{v, m, s}, within{v, m, s, *m, *s}, &within{v, m, s, *m, *s}} {
		var b bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&b, verb+"\n", x)
		}
		slog.New(slog.NewJSONHandler(&b, nil)).Info("", "x", x)
		slog.New(slog.NewTextHandler(&b, nil)).Info("", "x", x)
		if err := json.NewEncoder(&b).Encode(x); err != nil {
			t.Errorf("%T: %v", x, err)
		}
		for _, form := range []string{secret[:6], fmt.Sprintf("%x", secret[:6]), strings.Trim(fmt.Sprint([]byte(secret[:6])), "[]"), fmt.Sprintf("%#v", []byte(secret[:6]))[7:41]} {
			if strings.Contains(b.String(), form) {
				t.Errorf("%T shows %q", x, form)
			}
		}
	}
}

func TestCompileClearsWhatIsRevealed(t *testing.T) {
	content := []byte("hunter22")
	Compile([]Value{{Secret: "s", Key: "K", Reveal: func() []byte { return content }}})
	if !bytes.Equal(content, make([]byte, 8)) {
		t.Errorf("the bytes are %q", content)
	}
}

// The test keeps the bytes, which does not keep the Matcher.
func TestTextsAreClearedWhenTheLastStreamIsGone(t *testing.T) {
	wiped := make(chan []byte, 1)
	s := compile([]Value{value("s", "hunter22")}, func(texts []byte) { clear(texts); wiped <- texts }).Stream()
	for range 3 {
		runtime.GC()
	}
	if got := s.Append(nil, []byte("hunter22.")); string(got) != label+"." {
		t.Fatalf("cleared while there was a stream: got %q", got)
	}
	for range 100 {
		runtime.GC()
		select {
		case texts := <-wiped:
			if len(texts) == 0 || len(bytes.Trim(texts, "\x00")) > 0 {
				t.Errorf("the bytes became %q", texts)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Error("the bytes were not cleared")
}

func TestMemory(t *testing.T) {
	const mib = 1 << 20
	const large = mib / 8
	random := keys(4000)
	file := strings.Join(random, "")[:large]
	lines := strings.Join(random, "\n")[:large]
	noise := make([]byte, large)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	for _, c := range []struct {
		name   string
		values []string
		most   int
	}{
		{"no value", nil, mib / 8},
		{"100 keys", random[:100], mib},
		{"25 keys of TLS", split(lines, 25, 3<<10), 4 * mib},
		{"a large file", []string{file}, 20 * large},
		{"a large file of lines", []string{lines}, 20 * large},
		{"a large file of bytes", []string{string(noise)}, 20 * large},
		{"16 KiB of lines", []string{lines[:16<<10]}, 2 * mib},
		{"16 KiB of bytes", []string{string(noise[:16<<10])}, 2 * mib},
	} {
		m := Compile(values(c.values)).table()
		size := int(unsafe.Sizeof(*m)) + cap(m.texts) + cap(m.spots)*int(unsafe.Sizeof(spot{})) + cap(m.slots)*int(unsafe.Sizeof(slot{}))
		t.Logf("%s: %d needles, %d KiB", c.name, len(m.spots), size>>10)
		if size > c.most {
			t.Errorf("%s: takes %d KiB, more than %d", c.name, size>>10, c.most>>10)
		}
	}
}

// split returns parts of a text, each of a size.
func split(text string, parts, size int) []string {
	var all []string
	for i := range parts {
		all = append(all, text[i*size:(i+1)*size])
	}
	return all
}

// However long a run is, and whatever is held, a stream keeps little.
func TestStreamIsBounded(t *testing.T) {
	s := Compile([]Value{value("s", "abababab"), value("t", strings.Repeat("xy", 5000))}).Stream()
	text := bytes.Repeat([]byte("ab"), 50<<10)
	var out []byte
	for range 20 {
		out = s.Append(out, text)
		if s.Held() > 2*longest || cap(s.held().raw) > 2*portion {
			t.Fatalf("%d bytes are held, in %d", s.Held(), cap(s.held().raw))
		}
	}
	if len(out) > 0 {
		t.Errorf("before the end of a run there is output: %q", out)
	}
	for range 20 {
		out = s.Append(out, bytes.Repeat([]byte("xy"), 50<<10))
		if s.Held() > 2*longest+8 || cap(s.held().raw) > 2*portion {
			t.Fatalf("%d bytes are held, in %d", s.Held(), cap(s.held().raw))
		}
	}
	if got, want := string(s.Close(out)), label+"[secret:t/K]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestText(t *testing.T) {
	m := Compile([]Value{value("s", "correct horse")})
	for text, want := range map[string]string{
		"":                      "",
		"nothing":               "nothing",
		"a correct horse":       "a [secret:s/K]",
		"correct horse battery": "[secret:s/K] battery",
	} {
		if got := m.Text(text); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
}
