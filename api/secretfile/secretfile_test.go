package secretfile

import (
	"maps"
	"strings"
	"testing"
)

func TestParseDotenv(t *testing.T) {
	tests := map[string]struct {
		source string
		want   map[string]string
	}{
		"plain":            {"A=1\nB=two words\n", map[string]string{"A": "1", "B": "two words"}},
		"export, comments": {"# a\nexport A=1 # b\n\nB=x#y\n", map[string]string{"A": "1", "B": "x#y"}},
		"quotes":           {`A='it "is"'` + "\n" + `B="a\nb\"c"`, map[string]string{"A": `it "is"`, "B": "a\nb\"c"}},
		"dollars":          {"A=$HOME\nB=\"${A}$$\"\nC='$A'\nD=${unclosed\n", map[string]string{"A": "$HOME", "B": "${A}$$", "C": "$A", "D": "${unclosed"}},
		"private use":      {"A=\uE000$\n", map[string]string{"A": "\uE000$"}},
		"several lines":    {"A=\"-----BEGIN\nx==\n-----END\"\n", map[string]string{"A": "-----BEGIN\nx==\n-----END"}},
		"byte order mark":  {"\uFEFFA=1\r\nB=2\r\n", map[string]string{"A": "1", "B": "2"}},
		"bytes":            {"A=\xff\xfe\nB=\"x\x80\"\n", map[string]string{"A": "\xff\xfe", "B": "x\x80"}},
		"NUL":              {"A=x\x00y\n", map[string]string{"A": "x\x00y"}},
		"CRLF in quotes":   {"A=\"x\r\ny\"\r\nB='z'\r\nC=\r\nD=w", map[string]string{"A": "x\r\ny", "B": "z", "C": "", "D": "w"}},
		"empty value":      {"A=\n", map[string]string{"A": ""}},
		"last wins":        {"A=1\nA=2\n", map[string]string{"A": "2"}},
		"empty":            {"# nothing\n", map[string]string{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", "/leaked")
			got, err := ParseDotenv([]byte(tt.source))
			if err != nil || !same(got, tt.want) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestParseDotenvRefuses(t *testing.T) {
	for name, source := range map[string]string{
		"no =":            "A=1\nhunter2\nB=2\n",
		"odd key":         "hunter2!=1\n",
		"dotted key":      "hunter2.x=1\n",
		"digit first":     "2hunter2=1\n",
		"quote not ended": "A=\"hunter2\n",
	} {
		got, err := ParseDotenv([]byte(source))
		if err == nil {
			t.Errorf("%s: taken as %q", name, got)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error echoes the line: %v", name, err)
		}
	}
}

func FuzzParseDotenv(f *testing.F) {
	for _, source := range []string{"A=1\n", "A='x'\nB=\"${A}\"", "export A=$$", "A", "A=\"x", "A: 1", "\uE000=$"} {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		values, err := ParseDotenv([]byte(source))
		if err != nil {
			return
		}
		for key, value := range values {
			if !IsKey(key) {
				t.Errorf("%q is not a key", key)
			}
			if strings.Count(string(value), "$") > strings.Count(source, "$") {
				t.Errorf("%q has a $ that was not there", value)
			}
		}
	})
}

func TestParseJSON(t *testing.T) {
	const source = "\uFEFF{\"A\": \"x\", \"N\": 1.10, \"E\": 1e400, \"L\": 12345678901234567890123, \"B\": true,\r\n\"R\": \"\uFFFD\\ufffd\\uFFFD\", \"P\": \"\\ud83d\\ude00\", \"Z\": \"\\u0000\"}"
	want := map[string]string{
		"A": "x", "N": "1.10", "E": "1e400", "L": "12345678901234567890123", "B": "true", "R": "\uFFFD\uFFFD\uFFFD", "P": "😀", "Z": "\x00",
	}
	if got, err := ParseJSON([]byte(source)); err != nil || !same(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// Names of files, and of what writes them, become keys as the caller says.
func TestNames(t *testing.T) {
	names := Names{Rename: map[string]string{"tls.crt": "TLS_CRT", "a": "A"}}
	want := map[string]string{"TLS_CRT": "1", "A": "2"}
	for _, source := range []struct {
		parse func([]byte, Names) (map[string][]byte, error)
		text  string
	}{
		{ParseJSONAs, `{"tls.crt": "1", "A": 2}`}, {ParseYAMLAs, "tls.crt: 1\nA: 2\n"}, {ParseDotenvAs, "tls.crt=1\nA=2\n"},
	} {
		if got, err := source.parse([]byte(source.text), names); err != nil || !same(got, want) {
			t.Errorf("%s: got %q, %v; want %q", source.text, got, err, want)
		}
		twice := strings.NewReplacer("tls.crt", "a").Replace(source.text)
		if got, err := source.parse([]byte(twice), names); err == nil || !strings.Contains(err.Error(), "A is given twice") {
			t.Errorf("%s: got %q, %v", twice, got, err)
		}
		other := strings.NewReplacer("tls.crt", "hunter2.crt").Replace(source.text)
		if got, err := source.parse([]byte(other), names); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %q, %v", other, got, err)
		}
	}
}

func TestKeyOfAName(t *testing.T) {
	long := strings.Repeat("x", MaxKey)
	for _, test := range []struct {
		names     Names
		name, key string // none is wanted when empty
	}{
		{Names{}, "A_1", "A_1"}, {Names{}, "a.b", ""}, {Names{}, "1", ""}, {Names{}, "", ""},
		{Names{Fit: true}, "a.b-c_D", "a_b_c_D"}, {Names{Fit: true}, ".x", "_x"}, {Names{Fit: true}, "1x", "_1x"}, {Names{Fit: true}, "-", "_"},
		{Names{Fit: true}, "a b", ""}, {Names{Fit: true}, "a/b", ""}, {Names{Fit: true}, "\u00e4", ""}, {Names{Fit: true}, "a\xff", ""}, {Names{Fit: true}, "", ""},
		{Names{Fit: true}, long, long}, {Names{Fit: true}, long + "x", ""}, {Names{Fit: true, Rename: map[string]string{"a b": "K"}}, "a b", "K"},
	} {
		if got, ok := test.names.Key(test.name); ok != (test.key != "") || ok && got != test.key {
			t.Errorf("%+v: %.20q is %.20q, %v", test.names, test.name, got, ok)
		}
	}
}

func TestParseJSONRefuses(t *testing.T) {
	for name, source := range map[string]string{
		"list":       `["hunter2"]`,
		"text":       `"hunter2"`,
		"null":       `{"A": null}`,
		"nested":     `{"A": {"B": "hunter2"}}`,
		"array":      `{"A": ["hunter2"]}`,
		"twice":      `{"A": "hunter2", "A": "x"}`,
		"trailing":   `{"A": "x"} hunter2`,
		"two":        `{"A": "x"} {"B": "hunter2"}`,
		"odd key":    `{"hunter2!": "x"}`,
		"truncated":  `{"A": "hunter2`,
		"empty file": ``,
		"surrogate":  `{"A": "hunter2\ud800"}`,
		"surrogates": `{"A": "hunter2\ude00\ud83d\ufffd"}`,
		"not UTF-8":  "{\"A\": \"hunter2\xff\"}",
		"deep":       `{"A": ` + strings.Repeat("[", 1<<20),
	} {
		got, err := ParseJSON([]byte(source))
		if err == nil {
			t.Errorf("%s: taken as %q", name, got)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error echoes the file: %v", name, err)
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, source := range []string{`{"A":"x","B":1.50,"C":true}`, `{}`, `[]`, `{"A":{}}`, `{"A"`, `{"A":"\u0000"}`} {
		f.Add([]byte(source))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		for _, names := range []Names{{}, {Fit: true}, {Rename: map[string]string{"A": "B"}}} {
			values, _ := ParseJSONAs(source, names)
			for key := range values {
				if !IsKey(key) {
					t.Errorf("%q is not a key", key)
				}
			}
		}
	})
}

func TestParseYAML(t *testing.T) {
	const source = "# a comment\n---\nA: plain text\nB: 'it''s'\nC: |\n  two\n  lines\nD: 1.50\nE: yes\nF: 2001-01-01\nG: \"\"\n"
	want := map[string]string{"A": "plain text", "B": "it's", "C": "two\nlines\n", "D": "1.50", "E": "yes", "F": "2001-01-01", "G": ""}
	if got, err := ParseYAML([]byte(source)); err != nil || !same(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if got, err := ParseYAML([]byte("{}")); err != nil || len(got) != 0 {
		t.Errorf("an empty mapping: %q, %v", got, err)
	}
}

func TestParseYAMLRefuses(t *testing.T) {
	for name, source := range map[string]string{
		"list":       "- hunter2\n",
		"text":       "hunter2\n",
		"null":       "A: null\nB: hunter2\n",
		"nothing":    "A:\nB: hunter2\n",
		"nested":     "A: {B: hunter2}\n",
		"array":      "A: [hunter2]\n",
		"twice":      "A: hunter2\nA: x\n",
		"documents":  "A: x\n---\nB: hunter2\n",
		"odd key":    "hunter2!: x\n",
		"anchor":     "A: &hunter2 x\n",
		"alias":      "A: &hunter2 x\nB: *hunter2\n",
		"unknown":    "A: *hunter2\n",
		"merge":      "<<: {A: hunter2}\n",
		"tag":        "A: !hunter2 x\n",
		"binary":     "A: !!binary aHVudGVyMg==\n",
		"quote":      "A: \"hunter2\n",
		"no YAML":    "A: hunter2: x\n",
		"tab":        "A:\n\thunter2: x\n",
		"empty file": "",
		"not UTF-8":  "A: hunter2\xff\n",
		"NUL":        "A: hunter2\x00\n",
		"surrogate":  "A: \"hunter2\\ud800\"\n",
		"deep":       "A: " + strings.Repeat("[", 1<<20),
		"deep keys":  strings.Repeat("? ", 1<<20),
		"bomb":       "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\n",
	} {
		got, err := ParseYAML([]byte(source))
		if err == nil {
			t.Errorf("%s: taken as %q", name, got)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error echoes the file: %v", name, err)
		}
	}
}

func FuzzParseYAML(f *testing.F) {
	for _, source := range []string{"A: x\nB: 1.50\nC: true", "{}", "[]", "A: {}", "A: &a x\nB: *a", "A: |\n  x\n", "---\nA: x\n...\n", "A: \"\\0\""} {
		f.Add([]byte(source))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		for _, names := range []Names{{}, {Fit: true}, {Rename: map[string]string{"A": "B"}}} {
			values, _ := ParseYAMLAs(source, names)
			for key := range values {
				if !IsKey(key) {
					t.Errorf("%q is not a key", key)
				}
			}
		}
	})
}

func same(got map[string][]byte, want map[string]string) bool {
	return maps.EqualFunc(got, want, func(a []byte, b string) bool { return string(a) == b })
}
