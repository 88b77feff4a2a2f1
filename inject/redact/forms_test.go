package redact

import (
	"bytes"
	"compress/gzip"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// samples are values of many kinds, none of which has a form in another.
var samples = map[string]string{
	"a key":              "sk-proj-T3BlbkFJ_0123456789",
	"the shortest":       "hunter",
	"punctuation":        `p@ss "w<o>r&d" \o/ ~!*'()+=,;:?#$[]{}%^|` + "`",
	"control characters": "a\tb\rc\x01d\x1fe\bf\fg\x7fh",
	"spaces":             "correct horse battery staple",
	"letters":            "pässwörd-密码-\U0001f511-\u2028-\u2029",
	"any bytes":          "\xff\xfe\xfb\xef\xbe\x00\x01\x80\xffkey\xf0",
	"all at once":        "<\u2028/é\t\">",
	"base64 of its own":  "+/+/????>>>>~~~~",
}

const label = "[secret:s/K]"

func TestFormsOfEncoders(t *testing.T) {
	encoders := map[string]func(v string) string{
		"as it is":             func(v string) string { return v },
		"hex":                  func(v string) string { return hex.EncodeToString([]byte(v)) },
		"HEX":                  func(v string) string { return strings.ToUpper(hex.EncodeToString([]byte(v))) },
		"base64":               func(v string) string { return base64.StdEncoding.EncodeToString([]byte(v)) },
		"base64 unpadded":      func(v string) string { return base64.RawStdEncoding.EncodeToString([]byte(v)) },
		"base64 URL":           func(v string) string { return base64.URLEncoding.EncodeToString([]byte(v)) },
		"base64 URL unpadded":  func(v string) string { return base64.RawURLEncoding.EncodeToString([]byte(v)) },
		"url.QueryEscape":      url.QueryEscape,
		"url.PathEscape":       url.PathEscape,
		"url.Values":           func(v string) string { return strings.TrimPrefix(url.Values{"": {v}}.Encode(), "=") },
		"percent, lower":       func(v string) string { return lowerDigits(url.QueryEscape(v), '%', 2) },
		"percent, space":       func(v string) string { return strings.ReplaceAll(url.QueryEscape(v), "+", "%20") },
		"path, lower":          func(v string) string { return lowerDigits(url.PathEscape(v), '%', 2) },
		"JSON":                 func(v string) string { return inJSON(t, v, true) },
		"JSON, no HTML":        func(v string) string { return inJSON(t, v, false) },
		"JSON, upper":          func(v string) string { return upperDigits(inJSON(t, v, true)) },
		"JSON, no HTML, upper": func(v string) string { return upperDigits(inJSON(t, v, false)) },
	}
	for sample, v := range samples {
		m := Compile([]Value{value("s", v)})
		for encoder, encode := range encoders {
			if got := redacted(m, "<", encode(v), ">"); got != "<"+label+">" {
				t.Errorf("%s, %s: %q became %q", sample, encoder, encode(v), got)
			}
		}
	}
}

// inJSON is what encoding/json makes of a text, without the quotes.
func inJSON(t *testing.T, v string, html bool) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

// lowerDigits changes the hexadecimal digits after each mark.
func lowerDigits(text string, mark byte, digits int) string {
	return changeDigits(text, mark, digits, bytes.ToLower)
}

func upperDigits(text string) string { return changeDigits(text, 'u', 4, bytes.ToUpper) }

func changeDigits(text string, mark byte, digits int, change func([]byte) []byte) string {
	b := []byte(text)
	for i := range b {
		if b[i] == mark && (mark == '%' || i > 0 && b[i-1] == '\\') {
			copy(b[i+1:], change(b[i+1:i+1+digits]))
		}
	}
	return string(b)
}

// What other languages make of the samples, from those languages.
func TestFormsOfOtherLanguages(t *testing.T) {
	for _, c := range []struct{ name, sample, encoded string }{
		{"Python's json.dumps", "letters", `p\u00e4ssw\u00f6rd-\u5bc6\u7801-\ud83d\udd11-\u2028-\u2029`},
		{"JSON.stringify", "letters", "pässwörd-密码-\U0001f511-\u2028-\u2029"},
		{"JSON.stringify", "control characters", `a\tb\rc\u0001d\u001fe\bf\fg` + "\x7fh"},
		{"control characters as \\u00XX", "control characters", `a\u0009b\u000dc\u0001d\u001fe\u0008f\u000cg` + "\x7fh"},
		{"Python's json.dumps", "all at once", `<\u2028/\u00e9\t\">`},
		{"JSON.stringify", "all at once", "<\u2028/é" + `\t\">`},
		{"PHP's json_encode", "punctuation", `p@ss \"w<o>r&d\" \\o\/ ~!*'()+=,;:?#$[]{}%^|` + "`"},
		{"encodeURIComponent", "punctuation", "p%40ss%20%22w%3Co%3Er%26d%22%20%5Co%2F%20~!*'()%2B%3D%2C%3B%3A%3F%23%24%5B%5D%7B%7D%25%5E%7C%60"},
		{"encodeURI", "punctuation", "p@ss%20%22w%3Co%3Er&d%22%20%5Co/%20~!*'()+=,;:?#$%5B%5D%7B%7D%25%5E%7C%60"},
		{"Python's quote", "punctuation", "p%40ss%20%22w%3Co%3Er%26d%22%20%5Co/%20~%21%2A%27%28%29%2B%3D%2C%3B%3A%3F%23%24%5B%5D%7B%7D%25%5E%7C%60"},
		{"URLSearchParams", "punctuation", "p%40ss+%22w%3Co%3Er%26d%22+%5Co%2F+%7E%21*%27%28%29%2B%3D%2C%3B%3A%3F%23%24%5B%5D%7B%7D%25%5E%7C%60"},
	} {
		m := Compile([]Value{value("s", samples[c.sample])})
		if got := redacted(m, "<"+c.encoded+">"); got != "<"+label+">" {
			t.Errorf("%s: %q became %q", c.name, c.encoded, got)
		}
	}
}

// Of a longer text in base64 each character is replaced that holds a bit of the
// value, and no other.
func TestBase64WithinSomethingLonger(t *testing.T) {
	encodings := []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding}
	rapid.Check(t, func(t *rapid.T) {
		// One that overlaps with itself may be there twice.
		once := func(v []byte) bool { return bytes.IndexByte(v[1:], v[0]) < 0 }
		v := rapid.SliceOfN(rapid.Byte(), 6, 40).Filter(once).Draw(t, "value")
		before := rapid.SliceOfN(rapid.Byte(), 0, 7).Draw(t, "before")
		after := rapid.SliceOfN(rapid.Byte(), 0, 7).Draw(t, "after")
		e := rapid.SampledFrom(encodings).Draw(t, "encoding")
		encoded := e.EncodeToString(bytes.Join([][]byte{before, v, after}, nil))
		first, end := 8*len(before)/6, (8*(len(before)+len(v))+5)/6
		if len(after) == 0 {
			end = len(encoded)
		}
		got := redacted(Compile([]Value{value("s", string(v))}), "(", encoded, ")")
		if want := "(" + encoded[:first] + label + encoded[end:] + ")"; got != want {
			t.Fatalf("%q became %q, want %q", encoded, got, want)
		}
	})
}

// Whatever a value is, no encoder brings it past.
func TestFormsOfAnyValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := string(rapid.SliceOfN(rapid.Byte(), 6, 700).Filter(func(b []byte) bool {
			return !bytes.HasSuffix(b, []byte("\n")) && !bytes.HasSuffix(b, []byte("\r"))
		}).Draw(t, "value"))
		quoted, _ := json.Marshal(v)
		for _, encoded := range []string{
			v, hex.EncodeToString([]byte(v)), url.QueryEscape(v), url.PathEscape(v), string(quoted[1 : len(quoted)-1]),
			base64.StdEncoding.EncodeToString([]byte(v)), base64.RawURLEncoding.EncodeToString([]byte(v)),
		} {
			if got := redacted(Compile([]Value{value("s", v)}), encoded); got != label {
				t.Fatalf("%q, valid UTF-8 %v, became %q", encoded, utf8.ValidString(v), got)
			}
		}
	})
}

func TestLinesAndLineEnds(t *testing.T) {
	pem := "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n  hkiG9w0BAQEF \nab=\n------\n-----END KEY-----\n"
	for _, c := range []struct{ name, value, in, want string }{
		{"a line end at the end", "hunter22\n", "x hunter22\ny", "x [s]\ny"},
		{"none", "hunter22\n", "x hunter22 y", "x [s] y"},
		{"encoded with it", "hunter22\n", base64.StdEncoding.EncodeToString([]byte("hunter22\n")), "[s]"},
		{"encoded without it", "hunter22\n", base64.StdEncoding.EncodeToString([]byte("hunter22")), "[s]"},
		{"with it in JSON", "hunter22\n", `{"p":"hunter22\n"}`, `{"p":"[s]"}`},
		{"two of them", "hunter22\r\n", "x hunter22\r\ny", "x [s]\r\ny"},
		{"long enough with it alone", "abcde\n", "abcde abcde\n", "abcde [s]"},
		{"all lines", pem, "x\n" + pem + "y", "x\n[s]\ny"},
		{"all lines on a terminal", pem, strings.ReplaceAll("x\n"+pem+"y", "\n", "\r\n"), "x\r\n[s]\r\ny"},
		{"all lines in JSON", pem, inJSON(t, pem, true), "[s]"},
		{"some lines", pem, "1: MIIEvQIBADANBgkq\r\n2: hkiG9w0BAQEF\n3: ab=\n", "1: [s]\r\n2: [s]\n3: ab=\n"},
		{"a line in base64, with its edges", pem, base64.StdEncoding.EncodeToString([]byte("user:MIIEvQIBADANBgkq")), "dXNlcjp[s]"},
		{"a line in JSON", "a\nsay \"hi\"", `"say \"hi\""`, `"[s]"`},
		{"a line of one character", pem, "------\n", "------\n"},
		{"of Windows, in Unix", "abc\r\ndef\r\n", "abc\ndef\n", "[s]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.ReplaceAll(redacted(Compile([]Value{value("s", c.value)}), c.in), label, "[s]")
			if got != c.want {
				t.Errorf("%q became %q, want %q", c.in, got, c.want)
			}
		})
	}
}

// Pieces of a long value have one label together, and each hides itself.
func TestLongValues(t *testing.T) {
	v := keys(1)[0]
	for i := 0; len(v) < 100<<10; i++ {
		v += "\n" + v[:17*i%40] + strings.Repeat("-", i%3)
		if i%2 == 0 {
			v += keys(50)[i%50]
		}
	}
	m := Compile([]Value{value("s", v)})
	for name, in := range map[string]string{
		"as it is": v,
		"base64":   base64.StdEncoding.EncodeToString([]byte(v)),
		"hex":      hex.EncodeToString([]byte(v)),
		"JSON":     inJSON(t, v, true),
	} {
		if got := redacted(m, "<"+in+">"); got != "<"+label+">" {
			t.Errorf("%s: became %d bytes: %.60q", name, len(got), got)
		}
		from, to := 1000, 9000
		got := redacted(m, in[from:to])
		if len(got) > 2*longest+3*len(label) || !strings.Contains(got, label) {
			t.Errorf("%s, a part of it: %d bytes became %d", name, to-from, len(got))
		}
	}
}

// The limits that the package's documentation names. A form that is found one day
// is to be taken off there.
func TestLimits(t *testing.T) {
	const v = "correct-horse-Battery-staple-0123456789"
	std := base64.StdEncoding.EncodeToString
	encoded := std([]byte(v))
	for _, c := range []struct{ name, value, in string }{
		{"compressed", v, compressed(t, v)},
		{"base64 broken into lines", v, encoded[:20] + "\n" + encoded[20:40] + "\n" + encoded[40:]},
		{"broken into lines", v, v[:20] + "\r\n" + v[20:]},
		{"base64 of base64", v, std([]byte(encoded))},
		{"base64 of hex", v, std([]byte(hex.EncodeToString([]byte(v))))},
		{"percent-encoded twice", "a/b c+d&e", url.QueryEscape(url.QueryEscape("a/b c+d&e"))},
		{"JSON in JSON", `say "hello"`, inJSON(t, inJSON(t, `say "hello"`, true), true)},
		{"base32", v, base32.StdEncoding.EncodeToString([]byte(v))},
		{"HTML", "fish&chips", html.EscapeString("fish&chips")},
		{"quoted by Go", "abc\x01def", `abc\x01def`},
		{"quoted for a shell", "it's mine", `it'\''s mine`},
		{"quoted-printable", "fish=chips", "fish=3Dchips"},
		{"other case", v, strings.ToUpper(v)},
		{"a part", v, v[1:]},
		{"with something in between", v, v[:20] + "\x1b[0m" + v[20:]},
		{"hex with spaces", v, fmt.Sprintf("% x", v)},
		{"every byte percent-encoded", v, strings.ReplaceAll(fmt.Sprintf(" % x", v), " ", "%")},
		{"numbers", v, fmt.Sprint([]byte(v))},
		{"less than 6 bytes", "12345", "12345"},
		{"a short line", "first line\n12345\n", "12345"},
	} {
		if got := redacted(Compile([]Value{value("s", c.value)}), c.in); strings.Contains(got, label) {
			t.Errorf("%s: is found by now: %q", c.name, c.in)
		}
	}
}

// A large value is found in fewer forms, which the documentation names as well.
func TestLimitsOfLargeValues(t *testing.T) {
	line := "some text/"
	one, many := strings.Repeat(line, 2<<10), strings.Repeat(line+"\n", 2<<10)
	noise := strings.Repeat("\xff"+line, 2<<10)
	for _, c := range []struct {
		value, in string
		found     bool
	}{
		{one, url.QueryEscape(one), false},
		{one, base64.StdEncoding.EncodeToString([]byte(one)), true},
		{many, line, true},
		{many, url.QueryEscape(line), true},
		{many, hex.EncodeToString([]byte(line)), false},
		{many, base64.StdEncoding.EncodeToString([]byte(line)), false},
		{many, hex.EncodeToString([]byte(many)), true},
		{noise, noise, true},
		{noise, inJSON(t, noise, true), false},
		{noise[:20], inJSON(t, noise[:20], true), true},
		{"\xff\n" + line, line, true},
		{"\xff\n" + line, hex.EncodeToString([]byte(line)), false},
	} {
		got := redacted(Compile([]Value{value("s", c.value)}), c.in)
		if found := strings.Contains(got, label); found != c.found {
			t.Errorf("%.30q: found is %v", c.in, found)
		}
	}
}

func compressed(t *testing.T, v string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(v)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLimitOfTwoStreams(t *testing.T) {
	const v = "correct-horse-battery"
	m := Compile([]Value{value("s", v)})
	stdout, stderr := m.Stream(), m.Stream()
	got := string(stdout.Append(nil, []byte(v[:5]))) + string(stderr.Append(nil, []byte(v[5:])))
	got += string(stdout.Close(nil)) + string(stderr.Close(nil))
	if got != v[5:]+v[:5] {
		t.Errorf("got %q", got)
	}
}

func TestCut(t *testing.T) {
	text := []byte(strings.Repeat("0123456789", 100))
	for length := shortest; length <= len(text); length++ {
		pieces, reached := cut(text[:length]), 0
		for _, p := range pieces {
			if len(p) != min(length, longest) {
				t.Fatalf("of %d bytes there is a piece of %d", length, len(p))
			}
			start := cap(text) - cap(p)
			if start > reached {
				t.Fatalf("of %d bytes those from %d to %d are in no piece", length, reached, start)
			}
			reached = start + len(p)
		}
		if reached != length {
			t.Fatalf("of %d bytes those from %d on are in no piece", length, reached)
		}
	}
}
