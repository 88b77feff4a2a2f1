package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// What a workload is and waits for has one wording, wherever it is told.
func TestSentence(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(d)) }
	for _, c := range []struct {
		of          *purserv1.Workload
		want, waits string
	}{
		{&purserv1.Workload{State: "running"}, "a/f is running", ""},
		{&purserv1.Workload{State: "running", Reason: "not ready: status 503"}, "a/f is running: not ready: status 503", "running: not ready: status 503"},
		{&purserv1.Workload{State: "starting"}, "a/f is starting", ""},
		{&purserv1.Workload{State: "failed", Reason: "exited with status 3"}, "a/f is failed: exited with status 3", ""},
		{&purserv1.Workload{State: "pulling", Reason: "image x:1"}, "a/f is pulling image x:1", "pulling: image x:1"},
		{&purserv1.Workload{State: "backing_off", Reason: "why", NextTryAt: in(3 * time.Second)}, "a/f is backing_off: why; next try in 3s", "backing_off: why"},
		{&purserv1.Workload{State: "backing_off", Reason: "why", NextTryAt: in(900 * time.Millisecond)}, "a/f is backing_off: why; next try now", "backing_off: why"},
		{&purserv1.Workload{State: "backing_off", Reason: "why", NextTryAt: in(-time.Minute)}, "a/f is backing_off: why; next try now", "backing_off: why"},
		{&purserv1.Workload{State: "backing_off", NextTryAt: in(time.Second)}, "a/f is backing_off: next try in 1s", ""},
		{&purserv1.Workload{State: "backing_off", Reason: "a\x1b[31m\nb"}, "a/f is backing_off: a [31m b", "backing_off: a\x1b[31m\nb"},
	} {
		c.of.Id = "a/f"
		if got := sentence(c.of, now); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if got := waitsFor(c.of); got != c.waits {
			t.Errorf("%s waits for %q, want %q", c.want, got, c.waits)
		}
	}
	if got := waitsFor(nil); got != "" {
		t.Errorf("nothing waits for %q", got)
	}
}

func TestIsReady(t *testing.T) {
	probed := &purserv1.LaunchSpec{Probes: &purserv1.Probes{Ready: &purserv1.Probe{}}}
	job := &purserv1.LaunchSpec{Kind: new("job")}
	for _, c := range []struct {
		state string
		spec  *purserv1.LaunchSpec
		want  bool
	}{
		{"running", nil, true}, {"running", probed, false}, {"ready", probed, true}, {"starting", nil, false},
		{"starting", job, true}, {"completed", job, true}, {"backing_off", nil, false}, {"creating", nil, false},
	} {
		if got := isReady(&purserv1.Workload{State: c.state, Spec: c.spec}); got != c.want {
			t.Errorf("%s, %v: %v", c.state, c.spec, got)
		}
	}
}

// What runs beside a command has ended when that goes on.
func TestBeside(t *testing.T) {
	ended := false
	stop := beside(t.Context(), func(ctx context.Context) {
		<-ctx.Done()
		ended = true
	})
	stop()
	if !ended {
		t.Error("it was not waited for")
	}
}

// In a pipe a table has all of a reason in one line, and when it is tried again; on a
// terminal its beginning and its end, which says what to do.
func TestLongReasonsInTables(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	long := strings.Repeat("größer ", 600)
	for name, c := range map[string]struct {
		of   *purserv1.Workload
		want string
	}{
		"short": {&purserv1.Workload{Reason: "exited with status 3"}, "exited with status 3"},
		"lines": {&purserv1.Workload{Reason: "not ready: a\n\n  b\n"}, "not ready: a b"},
		"long":  {&purserv1.Workload{Reason: long}, strings.TrimSpace(long)},
		"later": {&purserv1.Workload{Reason: long, NextTryAt: timestamppb.New(now.Add(3 * time.Second))}, strings.TrimSpace(long) + "; next try in 3s"},
	} {
		var out bytes.Buffer
		(&session{out: &out}).workloadTable([]*purserv1.Workload{c.of}, now)
		if _, row, _ := strings.Cut(out.String(), "\n"); !strings.HasSuffix(row, "  "+c.want+"\n") || strings.Count(row, "\n") != 1 {
			t.Errorf("%s: got\n%s", name, row)
		}
	}
	got := reasonCell(&purserv1.Workload{Reason: long + "set it with: purser secret set"}, now, screen{width: 80})
	if !strings.HasPrefix(got, "größer größer") || !strings.HasSuffix(got, " größer set it with: purser secret set") || utf8.RuneCountInString(got) != longestReason {
		t.Errorf("on a terminal: %s", got)
	}
}
