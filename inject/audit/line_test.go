package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// Whatever stands in a line, reading it gives a record or an error, and what is
// authentic is what was sealed.
func FuzzParse(f *testing.F) {
	k := key{1}
	for _, r := range []Record{{}, {Seq: 7, Action: Set, Secrets: []Secret{{Name: "s", Keys: []string{"K"}}}, Caller: &Caller{UID: 1}}} {
		sealed, _, err := k.seal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed)
	}
	f.Add([]byte(`{"seq":1}`))
	f.Add([]byte(strings.Repeat("x", suffixSize)))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parse(text)
		var opened Record
		if _, openErr := k.open(text, &opened); openErr == nil && (err != nil || !reflect.DeepEqual(r, opened)) {
			t.Errorf("authentic, and parsed as %+v: %v", r, err)
		}
		if err != nil {
			return
		}
		again, _, err := k.seal(r)
		if err != nil {
			t.Fatalf("what was parsed is not encoded: %v", err)
		}
		if back, err := parse(again); err != nil || !sameJSON(t, r, back) {
			t.Errorf("%+v came back as %+v: %v", r, back, err)
		}
	})
}

func sameJSON(t *testing.T, a, b Record) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

// The reader of lines takes any file apart and loses no byte.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\n\nb"), 3)
	f.Add([]byte("\n"), 300000)
	f.Fuzz(func(t *testing.T, data []byte, long int) {
		data = append(data, bytes.Repeat([]byte("x"), max(0, min(long, 3*maxLine)))...)
		var end int64
		number := 0
		for l, err := range eachLine(bytes.NewReader(data)) {
			if err != nil {
				t.Fatal(err)
			}
			number++
			if l.start != end || l.number != number || l.end <= l.start {
				t.Fatalf("line %d from %d to %d follows %d", l.number, l.start, l.end, end)
			}
			want := bytes.TrimSuffix(data[l.start:l.end], []byte("\n"))
			if l.text != nil && !bytes.Equal(l.text, want) || l.text == nil && len(want) < maxLine-1 {
				t.Fatalf("line %d is %q, want %q", number, l.text, want)
			}
			if l.whole != (data[l.end-1] == '\n') {
				t.Fatalf("line %d: whole is %v", number, l.whole)
			}
			end = l.end
		}
		if end != int64(len(data)) {
			t.Fatalf("read %d of %d bytes", end, len(data))
		}
	})
}

func TestNamesOfFiles(t *testing.T) {
	for name, want := range map[string]uint64{
		"audit-000000000001.jsonl": 1, "audit-1234567890123.jsonl": 1234567890123,
		"audit-1.jsonl": 0, "audit-0000000000001.jsonl": 0, "000000000001": 0, "audit-00000000000x.jsonl": 0, "audit-18446744073709551615.jsonl": 0,
	} {
		if got, ok := firstOf(name); ok != (want != 0) || ok && got != want {
			t.Errorf("%s: %d %v", name, got, ok)
		}
	}
}
