package cli

import (
	"bytes"
	"testing"
)

func TestConsole(t *testing.T) {
	for colour, want := range map[bool]string{
		false: "a    | one\nlong | two\na    : running\nlong : failed: why\n",
		true: "\x1b[36ma    |\x1b[0m one\n\x1b[35mlong |\x1b[0m two\n" +
			"\x1b[36ma    :\x1b[0m \x1b[32mrunning\x1b[0m\n\x1b[35mlong :\x1b[0m \x1b[31mfailed: why\x1b[0m\n",
	} {
		var out bytes.Buffer
		c := &console{out: &out, err: &out, screen: screen{colour: colour}}
		c.name("a", "long")
		for _, line := range [][2]string{{"a", "one"}, {"long", "two"}} {
			m := newLineMerger(c.prefix)
			c.write("stdout", m.add(line[0], "stdout", []byte(line[1]+"\n")))
		}
		c.state("a", "running", stateStyle("running"))
		c.state("long", "failed: why", stateStyle("failed"))
		if out.String() != want {
			t.Errorf("colour %v: %q\nwant %q", colour, out.String(), want)
		}
	}
}
