package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for line, want := range map[string][2]string{
		"":          {"", ""},
		"--version": {"", ""},
		"--root /r --log /l --log-format json create --bundle /b --pid-file /p ID": {"create", "ID"},
		"--root=/r --log=/l --log-format=json create -b /b --no-pivot ID":          {"create", "ID"},
		"--debug --systemd-cgroup -root=/r create -b=/b --preserve-fds 2 ID":       {"create", "ID"},
		"create --bundle create create":                                            {"create", "create"},
		"--root create state create":                                               {"state", "create"},
		"--root exec delete --force exec":                                          {"delete", "exec"},
		"exec --process /p --detach --pid-file /q ID":                              {"exec", "ID"},
		"exec -d -p /p ID":                              {"exec", "ID"},
		"exec --env A=b -u 0 ID sh -c x":                {"exec", "ID"},
		"checkpoint --image-path /i --leave-running ID": {"checkpoint", "ID"},
		"--cgroup-manager disabled kill --all ID 9":     {"kill", "ID"},
		"create -- ID":                                  {"create", "ID"},
		"unheard-of --of x":                             {"unheard-of", "x"},
	} {
		c := parse(strings.Fields(line))
		if c.name != want[0] || c.id != want[1] {
			t.Errorf("%s: subcommand %q, ID %q", line, c.name, c.id)
		}
	}
}

func TestReplace(t *testing.T) {
	for line, want := range map[string]string{
		"--root /r create --bundle /b --pid-file /p ID": "--root /r create --bundle /new --pid-file /p ID",
		"create --bundle=/b ID":                         "create --bundle=/new ID",
		"create -b /b ID":                               "create -b /new ID",
		"create -b=/b ID":                               "create -b=/new ID",
		"create --pid-file --bundle --bundle /b ID":     "create --pid-file --bundle --bundle /new ID",
		"create ID --bundle /b":                         "create ID --bundle /b",
	} {
		c := parse(strings.Fields(line))
		if got := strings.Join(c.replace("/new", "bundle", "b"), " "); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	c := parse([]string{"--log", "/l", "create", "--bundle", "/b", "ID"})
	if bundle, ok := c.own("bundle", "b"); !ok || bundle != "/b" {
		t.Errorf("bundle %q", bundle)
	}
	if log, ok := c.global("log"); !ok || log != "/l" {
		t.Errorf("log %q", log)
	}
	if log, ok := parse([]string{"--log", "/l", "--version"}).global("log"); !ok || log != "/l" {
		t.Errorf("log %q without a subcommand", log)
	}
}

// Whatever the command line is, it is looked at without harm, and a replacement
// changes one argument at most.
func FuzzParse(f *testing.F) {
	f.Add("--root /r create --bundle /b ID")
	f.Add("-b= -- create --bundle")
	f.Add("exec -p")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		c := parse(slices.Clone(args))
		if c.at >= len(args) {
			t.Fatalf("subcommand at %d of %d", c.at, len(args))
		}
		if c.at < 0 {
			return
		}
		got := c.replace("/new", "bundle", "b", "process", "p")
		if len(got) != len(args) || !slices.Equal(args, c.args) {
			t.Fatalf("%q became %q", args, got)
		}
	})
}

func TestLogLine(t *testing.T) {
	if got := quote("a \"b\" \\ \n \x01 é \xff"); got != `"a \"b\" \\ \u000a \u0001 é `+"\ufffd"+`"` {
		t.Errorf("%s", got)
	}
}

func TestHookState(t *testing.T) {
	state := `{"ociVersion":"1.0.2","id":"x","bundle":"/run/p/bundle","annotations":{"a":"/run/p/bundle/not"}}`
	want := `{"ociVersion":"1.0.2","id":"x","bundle":"/own","annotations":{"a":"/run/p/bundle/not"}}`
	if got := withBundle(state, "/run/p/bundle", "/own"); got != want {
		t.Errorf("%s", got)
	}
}
