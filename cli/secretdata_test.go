package cli

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
		"empty value":      {"A=\n", map[string]string{"A": ""}},
		"last wins":        {"A=1\nA=2\n", map[string]string{"A": "2"}},
		"empty":            {"# nothing\n", map[string]string{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", "/leaked")
			got, err := parseDotenv(tt.source)
			if err != nil || !maps.Equal(got, tt.want) {
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
		got, err := parseDotenv(source)
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
		values, err := parseDotenv(source)
		if err != nil {
			return
		}
		for key, value := range values {
			if !isKey(key) {
				t.Errorf("%q is not a key", key)
			}
			if strings.Count(value, "$") > strings.Count(source, "$") {
				t.Errorf("%q has a $ that was not there", value)
			}
		}
	})
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
	} {
		got, err := parseJSON([]byte(source))
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
		values, err := parseJSON(source)
		if err != nil {
			return
		}
		for key := range values {
			if !isKey(key) {
				t.Errorf("%q is not a key", key)
			}
		}
	})
}

func TestParseArguments(t *testing.T) {
	got, err := parseArguments([]string{"A=-", "B=@x=y", "C=", "D-", "E=a-"})
	want := []argument{{"A", "-", false}, {"B", "@x=y", false}, {"C", "", false}, {"D", "", true}, {"E", "a-", false}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("argument %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestReadStdinValue(t *testing.T) {
	for in, want := range map[string]string{
		"x\n": "x", "x": "x", "x\r\n": "x", "x\n\n": "x\n", " x ": " x ", "a\nb\n": "a\nb",
	} {
		got, err := readStdinValue(strings.NewReader(in))
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "\n"} {
		if _, err := readStdinValue(strings.NewReader(in)); err == nil {
			t.Errorf("%q: taken for a value", in)
		}
	}
}
