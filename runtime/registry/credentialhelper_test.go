package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// install makes a shell script the credential helper that a configuration names.
func install(t *testing.T, script string) (config string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	config = filepath.Join(dir, "config.json")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte("#!/bin/sh\n"+script), 0o755),
		os.WriteFile(config, []byte(`{"credsStore": "none", "credHelpers": {"a.example": "test"}}`), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestHelperAnswers(t *testing.T) {
	for name, tc := range map[string]struct{ script, user, password, err string }{
		"credentials": {`read name; echo "{\"Username\": \"$1\", \"Secret\": \"of $name\"}"`, "get", "of a.example", ""},
		"a token":     {`echo '{"Username": "<token>", "Secret": "t"}'`, "", "t", ""},
		"none":        {`echo credentials not found in native keychain; exit 1`, "", "", ""},
		"a failure":   {`echo the keychain is locked; exit 3`, "", "", `docker-credential-test: exit status 3, saying "the keychain is locked"`},
		"a leak":      {`echo '{"Username": "u", "Secret": "hidden"}'; exit 3`, "", "", "docker-credential-test: exit status 3"},
		"no answer":   {`echo hidden`, "", "", "docker-credential-test gives an answer that is no JSON"},
		"a daemon":    {`setsid sleep 5 & echo '{"Username": "u", "Secret": "p"}'`, "u", "p", ""},
	} {
		t.Run(name, func(t *testing.T) {
			user, password, err := dockerCredentials(t.Context(), install(t, tc.script), origin{}, time.Minute)("a.example")
			switch {
			case tc.err == "":
			case err == nil || !strings.HasSuffix(err.Error(), tc.err) || !errors.As(err, new(*ConfigError)):
				t.Fatal(err)
			default:
				err = nil
			}
			if user != tc.user || password != tc.password || err != nil {
				t.Errorf("%q, %q, %v", user, password, err)
			}
		})
	}
}

// stuck is a helper that neither answers nor heeds signals, and what it has started.
// pids returns the process IDs of both once they run.
func stuck(t *testing.T) (config string, pids func() [2]int) {
	t.Helper()
	up := filepath.Join(t.TempDir(), "up")
	if err := syscall.Mkfifo(up, 0o600); err != nil {
		t.Fatal(err)
	}
	config = install(t, fmt.Sprintf("trap '' TERM INT; sleep 1000 &\necho $$ $! >%s\nwait; sleep 1000", up))
	return config, func() (both [2]int) {
		t.Helper()
		f, err := os.Open(up)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := fmt.Fscan(bufio.NewReader(f), &both[0], &both[1]); err != nil {
			t.Fatal(err)
		}
		return both
	}
}

// A helper ends with the pull that it was run for, and is waited for.
func TestHelperEndsWithItsPull(t *testing.T) {
	config, pids := stuck(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	go func() {
		_, _, err := dockerCredentials(ctx, config, origin{}, time.Hour)("a.example")
		ended <- err
	}()
	both := pids()
	// The helper is waited for by who ran it; what it started is not ours.
	started, err := unix.PidfdOpen(both[1], 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(started)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || errors.As(err, new(*ConfigError)) {
		t.Error(err)
	}
	if err := syscall.Kill(both[0], 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the helper: %v", err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(started), Events: unix.POLLIN}}, 10_000); n != 1 {
		t.Errorf("what it started runs on: %v", err)
	}
}

func TestHelperThatDoesNotAnswer(t *testing.T) {
	config := install(t, "trap '' TERM INT; sleep 1000; sleep 1000")
	_, _, err := dockerCredentials(t.Context(), config, origin{}, 200*time.Millisecond)("a.example")
	if reason, text := Explain(err, "a.example", nil); reason != Misconfigure || !strings.HasSuffix(text, "docker-credential-test has not answered for 200ms") {
		t.Errorf("%s: %s", reason, text)
	}
}
