package launchspec_test

import (
	"bytes"
	"errors"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/codec"
	"github.com/purserd/purser/api/launchspec"
)

// Whatever the file: Parse ends, points into the file, says each thing once,
// and gives only specs that an agent accepts and that survive being printed.
func FuzzParse(f *testing.F) {
	f.Add([]byte(documentedExample(f)))
	f.Add([]byte(head + "env: {A: \"${X:-d}\", B: '$${', C: ${Y:?m}}\n"))
	f.Add([]byte("app: a\ndefaults: {image: {ref: b}, secrets: [{name: s}]}\nfunctions: [{function: f, secrets: [{name: s}, 7]}, null]\n"))
	f.Add([]byte(`{"app":"a","function":"f","image":{"ref":"b"},"labels":{"x":"\ud83d\ude00\u0000"}}`))
	f.Add([]byte(head + "mounts: [{target: /a}, {target: /a}]\nstop: {grace: -1}\nrestart: &x {}\nnetwork: *x\n"))
	f.Add([]byte("? [a]\n: !!map {<<: x}\n---\n- \t"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := launchspec.Parse("a.yaml", data, variables("X=x"))
		if err != nil {
			checkPlaces(t, data, err)
			return
		}
		for _, s := range file.Specs {
			if err := launchspec.Validate(s); err != nil {
				t.Errorf("Parse accepts what Validate refuses: %v", err)
			}
			checkPrinted(t, s)
		}
	})
}

func checkPlaces(t *testing.T, data []byte, err error) {
	var problems launchspec.Problems
	if !errors.As(err, &problems) || len(problems) == 0 {
		t.Fatalf("got %#v", err)
	}
	lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) +
		bytes.Count(data, []byte("\u0085")) + bytes.Count(data, []byte("\u2028")) + bytes.Count(data, []byte("\u2029")) + 1
	seen := map[launchspec.Problem]bool{}
	for _, p := range problems {
		if p.Rule == "" || p.Message == "" || !utf8.ValidString(p.String()) || seen[p] {
			t.Errorf("bad or repeated problem %#v", p)
		}
		if p.Line > lines+1 || p.Line < 0 || (p.Line < 1 && p.Rule != "file.size") {
			t.Errorf("%v: the file has %d lines", p, lines)
		}
		seen[p] = true
	}
}

func checkPrinted(t *testing.T, s proto.Message) {
	if _, err := codec.MarshalJSON(s); err != nil {
		t.Error(err)
	}
	if _, err := codec.MarshalYAML(s); err != nil {
		t.Error(err)
	}
}
