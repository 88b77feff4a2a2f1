package cli

import (
	"strings"
	"testing"
)

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
