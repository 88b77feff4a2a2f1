package redact

import (
	"bytes"
	"testing"
)

// FuzzStream compares a Stream with the reference. The values are lines; the script
// writes the stream: a byte under 0x40 is a letter, one under 0x80 a part of a needle,
// one under 0xc0 a whole one, and others end a chunk, every second with a Flush.
func FuzzStream(f *testing.F) {
	f.Add("abcdefgh\nghijklmn", []byte("\x85\x01\xc0\x92\x41\xc1\x99"))
	f.Add("aaaaaaaa\naaaaaab", []byte("\x01\x01\x01\x01\x01\x01\x01\xc1\x01\x01\x01"))
	f.Add("secret", []byte("\x80\x81\x82\x83\xc0\x44\xc1\x45\xc1\x46"))
	f.Add("first line\r", []byte("\x80\xc1\x81"))
	f.Fuzz(func(t *testing.T, lines string, script []byte) {
		if len(lines) > 60 || len(script) > 120 {
			return // takes long and shows nothing new
		}
		var all []Value
		for i, line := range bytes.Split([]byte(lines), []byte("\n")) {
			all = append(all, value(string(rune('a'+i%3)), string(line)))
		}
		needles := needlesOf(all)
		input, parts := play(needles, script)
		s := matcher(needles).Stream()
		out, flushes := stream(s, parts)
		got := string(s.Close(out))
		if want := refer(needles, input, flushes).String(); got != want {
			t.Errorf("values %q\ninput %q, flushed at %v\n got %q\nwant %q", lines, input, flushes, got, want)
		}
	})
}

// play returns the stream that a script writes, and its chunks.
func play(needles []needle, script []byte) (input []byte, parts []chunk) {
	from := 0
	for i, b := range script {
		switch {
		case b >= 0xc0:
			parts = append(parts, chunk{bytes.Clone(input[from:]), b%2 == 1})
			from = len(input)
		case b < 0x40 || len(needles) == 0:
			input = append(input, "abcdefgh\n "[b%10])
		default:
			text := needles[(int(b%0x40)+i*7)%len(needles)].text
			if b < 0x80 {
				text = text[:len(text)*(int(b)%7)/7]
			}
			input = append(input, text...)
		}
	}
	return input, append(parts, chunk{bytes.Clone(input[from:]), false})
}
