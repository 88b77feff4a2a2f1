package redact

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// value is the value of key K of a secret.
func value(secret, data string) Value {
	return Value{Secret: secret, Key: "K", Reveal: func() []byte { return []byte(data) }}
}

// redacted is what a Stream makes of parts that come one after the other.
func redacted(m *Matcher, parts ...string) string {
	s := m.Stream()
	var out []byte
	for _, part := range parts {
		out = s.Append(out, []byte(part))
	}
	return string(s.Close(out))
}

// matcher is one for needles as they are.
func matcher(needles []needle) *Matcher {
	var own []needle
	for _, n := range needles {
		own = append(own, needle{bytes.Clone(n.text), n.label, n.piece})
	}
	t := newTable(own)
	return &Matcher{table: func() *table { return t }}
}

func TestReplaces(t *testing.T) {
	m := Compile([]Value{value("a", "abcdefgh"), value("b", "ghijklmnop"), value("c", "klmnop"), value("d", "zzzzzz"), value("e", "short")})
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "a plain line\n", "a plain line\n"},
		{"a value", "x abcdefgh y\n", "x [secret:a/K] y\n"},
		{"a value alone", "abcdefgh", "[secret:a/K]"},
		{"one after the other", "abcdefghabcdefgh", "[secret:a/K][secret:a/K]"},
		{"other one after the other", "abcdefghklmnop", "[secret:a/K][secret:c/K]"},
		{"overlapping ones, by the longest", "-abcdefghijklmnop-", "-[secret:b/K]-"},
		{"one within another", "ghijklmnop klmnop", "[secret:b/K] [secret:c/K]"},
		{"a row of itself", "-zzzzzzzzz-", "-[secret:d/K]-"},
		{"no short value", "short", "short"},
		{"the beginning of one, at the end", "abcdefg", "[partial]"},
		{"a short beginning, at the end", "-abcde", "-abcde"},
		{"beginnings", "abcdefabcdefgabcdefgh.", "abcdefabcdefg[secret:a/K]."},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := redacted(m, c.in); got != c.want {
				t.Errorf("at once: got %q, want %q", got, c.want)
			}
			if got := redacted(m, strings.Split(c.in, "")...); got != c.want {
				t.Errorf("byte by byte: got %q, want %q", got, c.want)
			}
		})
	}
}

// The longest of two of the same length is the one whose label sorts first, and of
// two that are the same there is one label.
func TestLabelsOfEqualLength(t *testing.T) {
	m := Compile([]Value{value("b", "abcdefgh"), value("a", "efghijkl"), value("d", "samesame"), value("c", "samesame")})
	if got, want := redacted(m, "abcdefghijkl samesame"), "[secret:a/K] [secret:c/K]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHoldsOnlyWhatMayBeginAValue(t *testing.T) {
	s := Compile([]Value{value("a", "abcdefg!")}).Stream()
	for _, c := range []struct {
		in, want string
		held     int
	}{
		{"password: ", "password: ", 0},
		{"abc", "", 3},
		{"d", "", 4},
		{"X", "abcdX", 0},
		{"ababc", "ab", 3},
		{"defg!", "[secret:a/K]", 0},
	} {
		got := string(s.Append(nil, []byte(c.in)))
		if got != c.want || s.Held() != c.held {
			t.Errorf("after %q: got %q and %d held, want %q and %d", c.in, got, s.Held(), c.want, c.held)
		}
	}
	if s.Redactions() != 1 {
		t.Errorf("%d redactions, want 1", s.Redactions())
	}
}

func TestFlush(t *testing.T) {
	m := Compile([]Value{value("a", "abcdefghijkl"), value("b", "kl012345")})
	for _, c := range []struct {
		name string
		want string
		in   []string // with a Flush between
	}{
		{"a prompt", "login: ", []string{"login: "}},
		{"a short beginning", "abcde", []string{"abcde", ""}},
		{"a beginning", "[partial]", []string{"abcdef", ""}},
		{"the rest follows a short beginning", "abc[secret:a/K].", []string{"abc", "defghijkl."}},
		{"the rest follows", "[partial][secret:a/K].", []string{"abcdefg", "hijkl."}},
		{"something else follows", "abcdx [partial]x", []string{"abcd", "x abcdefg", "x"}},
		{"byte by byte", "abcde[partial][secret:a/K]", strings.Split("abcdefghijkl", "")},
		{"twice", "[partial].", []string{"abcdefg", "", "", "."}},
		{"a value that overlaps another", "[secret:a/K]!", []string{"abcdefghijkl", "012345!"}},
		{"one that overlaps, in part", "[secret:a/K][partial][secret:a/K]!", []string{"abcdefghijkl0123", "45!"}},
		{"one after a value", "[secret:a/K]kl0[secret:b/K]", []string{"abcdefghijklkl0", "12345"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := m.Stream()
			var out []byte
			for _, part := range c.in {
				out = s.Flush(s.Append(out, []byte(part)))
			}
			if got := string(s.Close(out)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// small makes needles that overlap in many ways.
func small(t *rapid.T) []needle {
	all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) needle {
		text := rapid.StringMatching(`[ab]{6,9}|[abc]{6,8}|(ab){3,6}|a{6,12}|[ab]{20}`).Draw(t, "text")
		label := rapid.SampledFrom([]string{"[1]", "[2]", "[3]"}).Draw(t, "label")
		return needle{[]byte(text), label, rapid.Bool().Draw(t, "piece")}
	}), 1, 6).Draw(t, "needles")
	slices.SortFunc(all, compareNeedles)
	return slices.CompactFunc(all, func(a, b needle) bool { return bytes.Equal(a.text, b.text) })
}

// written makes an input of needles, parts of them and other text.
func written(t *rapid.T, needles []needle) []byte {
	part := rapid.Custom(func(t *rapid.T) []byte {
		text := rapid.SampledFrom(needles).Draw(t, "needle").text
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return text[:rapid.IntRange(0, len(text)).Draw(t, "to")]
		case 1:
			return text[rapid.IntRange(0, len(text)).Draw(t, "from"):]
		case 2:
			return []byte(rapid.StringMatching(`[abc]{1,5}`).Draw(t, "letters"))
		case 3:
			return []byte("-")
		}
		return text
	})
	return bytes.Join(rapid.SliceOfN(part, 0, 12).Draw(t, "parts"), nil)
}

// chunk is a part of a stream.
type chunk struct {
	text  []byte
	flush bool // after it
}

func chunks(t *rapid.T, input []byte, flushes bool) []chunk {
	var all []chunk
	for len(input) > 0 {
		n := rapid.IntRange(1, min(len(input), 12)).Draw(t, "length")
		all = append(all, chunk{input[:n], flushes && rapid.Bool().Draw(t, "flush")})
		input = input[n:]
	}
	return all
}

// run gives a stream some chunks and returns the output, and where it was flushed.
func stream(s *Stream, chunks []chunk) (out []byte, flushes []int) {
	read := 0
	for _, c := range chunks {
		out = s.Append(out, c.text)
		read += len(c.text)
		if c.flush {
			out = s.Flush(out)
			flushes = append(flushes, read)
		}
	}
	return out, flushes
}

func TestIsAsTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		needles := small(t)
		input := written(t, needles)
		s := matcher(needles).Stream()
		out, flushes := stream(s, chunks(t, input, rapid.Bool().Draw(t, "flushes")))
		got := string(s.Close(out))
		if want := refer(needles, input, flushes).String(); got != want {
			t.Fatalf("needles %s\ninput %q, flushed at %v\n got %q\nwant %q", list(needles), input, flushes, got, want)
		}
		if want := uint64(len(labels(got))); s.Redactions() != want {
			t.Fatalf("%d redactions counted, %d written", s.Redactions(), want)
		}
	})
}

func list(needles []needle) string {
	var all []string
	for _, n := range needles {
		all = append(all, fmt.Sprintf("%s%s%v", n.text, n.label, n.piece))
	}
	return strings.Join(all, " ")
}

func labels(output string) []string {
	return strings.FieldsFunc(output, func(r rune) bool { return r < '0' || r > '9' })
}

// However a stream is cut and flushed, of no occurrence of a needle shows more than
// the first 5 bytes, and no needle is in the output.
func TestShowsNoMoreThanFiveBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		needles := small(t)
		input := written(t, needles)
		s := matcher(needles).Stream()
		out, flushes := stream(s, chunks(t, input, true))
		out = s.Close(out)
		for _, n := range needles {
			if bytes.Contains(out, n.text) {
				t.Fatalf("%s\ninput %q flushed at %v: %q is in the output %q", list(needles), input, flushes, n.text, out)
			}
		}
		r := refer(needles, input, flushes) // to which the output is equal
		for _, o := range r.occurrences(len(input)) {
			for _, i := range r.clear {
				if o.start+5 <= i && i < o.end {
					t.Fatalf("%q at %d shows its byte %d", o.needle.text, o.start, i-o.start)
				}
			}
		}
	})
}

// A new stream that is given what is held, and the rest, hides what the first would
// have hidden. A Flush changes nothing in that.
func TestHeldCanBeReplayed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		needles := small(t)
		input := written(t, needles)
		m := matcher(needles)
		cut := rapid.IntRange(0, len(input)).Draw(t, "cut")
		first := m.Stream()
		out, _ := stream(first, chunks(t, input[:cut], false))
		held := first.Held()
		if first.Flush(nil); first.Held() != held {
			t.Fatalf("%d bytes are held, and %d after a Flush", held, first.Held())
		}
		second := m.Stream()
		rest, _ := stream(second, chunks(t, input[cut-held:], false))
		got, want := string(second.Close(append(out, rest...))), refer(needles, input, nil).String()
		if anonymous(got) != anonymous(want) {
			t.Fatalf("needles %s\ninput %q, cut at %d, %d held\n got %q\nwant %q", list(needles), input, cut, held, got, want)
		}
	})
}

// anonymous makes one of labels that follow each other, whatever they say.
func anonymous(output string) string {
	for _, l := range []string{"[1]", "[2]", "[3]"} {
		output = strings.ReplaceAll(output, l, "#")
	}
	for strings.Contains(output, "##") {
		output = strings.ReplaceAll(output, "##", "#")
	}
	return output
}

// A value that is added is found from then on, and those from before still are.
func TestSwapAdds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := small(t)
		added := needle{[]byte("abc-" + rapid.StringMatching(`[abc]{4,8}`).Draw(t, "added")), "[4]", false}
		all := append(slices.Clone(old), added)
		slices.SortFunc(all, compareNeedles)
		first := written(t, old)
		// None that is added begins before it is.
		later := func(second []byte) bool {
			input := append(slices.Clone(first), second...)
			i := bytes.Index(input, added.text)
			return i < 0 || i >= len(first)
		}
		second := rapid.Custom(func(t *rapid.T) []byte { return written(t, all) }).Filter(later).Draw(t, "second")
		s := matcher(old).Stream()
		out, _ := stream(s, chunks(t, first, false))
		s.Swap(matcher(all))
		rest, _ := stream(s, chunks(t, second, false))
		got := string(s.Close(append(out, rest...)))
		input := append(first, second...)
		if want := refer(all, input, nil).String(); got != want {
			t.Fatalf("needles %s\ninput %q, swapped at %d\n got %q\nwant %q", list(all), input, len(first), got, want)
		}
	})
}

func TestSwapTakesAway(t *testing.T) {
	one, two := value("a", "abcdefgh"), value("b", "efghijkl")
	s := Compile([]Value{one, two}).Stream()
	out := s.Append(nil, []byte("-abcdef"))
	s.Swap(Compile([]Value{two}))
	if held := s.Held(); held != 6 {
		t.Errorf("%d bytes are held after the swap, want 6", held)
	}
	out = s.Append(out, []byte("gh abcdefghi"))
	s.Swap(Compile(nil))
	out = s.Append(out, []byte("jkl"))
	if got, want := string(s.Close(out)), "-abcdefgh abcdefghijkl"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A run that a swap finds open is replaced as it was begun.
func TestSwapWithinARun(t *testing.T) {
	s := Compile([]Value{value("a", "abcdefgh"), value("b", "ghijklmn")}).Stream()
	out := s.Append(nil, []byte("abcdefghi"))
	s.Swap(Compile(nil))
	out = s.Append(out, []byte("jklmn"))
	if got, want := string(s.Close(out)), "[secret:a/K]ijklmn"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A closed stream is at its beginning again.
func TestStreamAfterClose(t *testing.T) {
	s := Compile([]Value{value("a", "abcdefgh")}).Stream()
	if got := string(s.Close(s.Append(nil, []byte("abcdefgh abcdefg")))); got != "[secret:a/K] [partial]" {
		t.Errorf("got %q", got)
	}
	if s.Held() != 0 {
		t.Errorf("%d bytes are held", s.Held())
	}
	if got := string(s.Close(s.Append(nil, []byte("h abcdefgh")))); got != "h [secret:a/K]" {
		t.Errorf("got %q", got)
	}
	if s.Redactions() != 2 {
		t.Errorf("%d redactions, want 2", s.Redactions())
	}
}

func TestNothingToFind(t *testing.T) {
	s := Compile(nil).Stream()
	if got := string(s.Append([]byte("before "), []byte("and after"))); got != "before and after" {
		t.Errorf("got %q", got)
	}
}

// Of two needles of the same length and label in a run, one that is a piece makes it
// one of pieces.
func TestRunOfAPieceAndNone(t *testing.T) {
	for _, needles := range [][]needle{
		{{[]byte("abcdefgh"), "[1]", true}, {[]byte("efghijkl"), "[1]", false}, {[]byte("mnopqrst"), "[1]", true}},
		{{[]byte("abcdefgh"), "[1]", false}, {[]byte("efghijkl"), "[1]", true}, {[]byte("mnopqrst"), "[1]", true}},
	} {
		const input = "abcdefghijklmnopqrst"
		got, want := redacted(matcher(needles), input), refer(needles, []byte(input), nil).String()
		if got != want || want != "[1]" {
			t.Errorf("%s: got %q, want %q", list(needles), got, want)
		}
	}
}

// What is held but begins no value any more is no secret.
func TestFlushAfterSwap(t *testing.T) {
	s := Compile([]Value{value("a", "abcdefgh")}).Stream()
	out := s.Append(nil, []byte("abcdefg"))
	s.Swap(Compile(nil))
	if got, want := string(s.Flush(out)), "abcdefg"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsNoLongerHeldIsCleared(t *testing.T) {
	s := Compile([]Value{value("a", "abcdefgh")}).Stream()
	s.Append(nil, []byte("abcdefg"))
	raw := s.held().raw[:7]
	s.Append(nil, []byte("."))
	if !bytes.Equal(raw, make([]byte, 7)) {
		t.Errorf("there is %q", raw)
	}
}

// A whole line of a value may be the beginning of all of it. What comes after a while
// is another message, on a line of its own.
func TestLineEndsAreShown(t *testing.T) {
	for value1, printed := range map[string]string{
		"first line\nsecond line\n":     "first line\n",
		"first line\r\nsecond line\r\n": "first line\r\n",
	} {
		s := Compile([]Value{value("s", value1)}).Stream()
		out := s.Flush(s.Append(nil, []byte(printed)))
		out = s.Close(s.Append(out, []byte("INFO another\nsecond li")))
		if want := "[secret:s/K]" + strings.TrimPrefix(printed, "first line") + "INFO another\n[partial]"; string(out) != want {
			t.Errorf("got %q, want %q", out, want)
		}
	}
}
