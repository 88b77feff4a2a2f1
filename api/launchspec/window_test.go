package launchspec_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

const stamp = "2006-01-02 15:04:05 MST"

func at(t *testing.T, text string) time.Time {
	t.Helper()
	got, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func window(t *testing.T, cron, duration, zone string) launchspec.Window {
	t.Helper()
	s := withFields(t, fmt.Sprintf(`"rotation": {"window": {"cron": %q, "duration": %q, "timezone": %q}}`, cron, duration, zone))
	if err := launchspec.Validate(s); err != nil {
		t.Fatal(err)
	}
	w, ok := launchspec.RotationWindow(s)
	if !ok {
		t.Fatal("a spec with a window has none")
	}
	return w
}

func TestNoWindow(t *testing.T) {
	for _, fields := range []string{``, `"rotation": {}`, `"rotation": {"window": {"cron": "x", "duration": "1h"}}`, `"rotation": {"window": {"cron": "0 2 * * *"}}`} {
		if _, ok := launchspec.RotationWindow(withFields(t, fields)); ok {
			t.Errorf("%s: has a window", fields)
		}
	}
}

func TestWindowOpen(t *testing.T) {
	nightly := window(t, "0 2 * * *", "3h", "")
	overMidnight := window(t, "30 22 * * 5", "4h", "")
	always := window(t, "0 0 1 * *", "800h", "")
	seconds := window(t, "* * * * *", "1500ms", "")
	zurich := window(t, "0 2 * * *", "3h", "Europe/Zurich")
	short := window(t, "15 2 * * *", "30m", "Europe/Zurich")
	for _, tt := range []struct {
		name   string
		window launchspec.Window
		at     string
		want   bool
	}{
		{"a moment before", nightly, "2026-11-26T01:59:59.999999999Z", false},
		{"as it opens", nightly, "2026-11-26T02:00:00Z", true},
		{"a moment after", nightly, "2026-11-26T02:00:00.000000001Z", true},
		{"before it closes", nightly, "2026-11-26T04:59:59.999999999Z", true},
		{"as it closes", nightly, "2026-11-26T05:00:00Z", false},
		{"elsewhere the clock shows another time", nightly, "2026-11-26T03:30:00+01:00", true},
		{"on a Friday", overMidnight, "2026-11-27T23:00:00Z", true},
		{"on the Saturday after", overMidnight, "2026-11-28T02:29:00Z", true},
		{"too late on it", overMidnight, "2026-11-28T02:30:00Z", false},
		{"on a Thursday", overMidnight, "2026-11-26T23:00:00Z", false},
		{"longer than its period", always, "2026-11-01T00:00:00Z", true},
		{"longer than its period, later", always, "2026-11-30T23:59:59Z", true},
		{"parts of seconds", seconds, "2026-11-26T12:00:01.499Z", true},
		{"parts of seconds, over", seconds, "2026-11-26T12:00:01.5Z", false},
		{"in winter", zurich, "2026-11-26T01:00:00Z", true},
		{"in winter, before", zurich, "2026-11-26T00:59:59Z", false},
		{"in summer", zurich, "2026-07-01T00:00:00Z", true},
		{"in summer, over", zurich, "2026-07-01T03:00:00Z", false},
		{"clock put forward from 2 to 3, before", zurich, "2026-03-29T00:59:59Z", false},
		{"clock put forward", zurich, "2026-03-29T01:00:00Z", true},
		{"clock put forward, at 4:59", zurich, "2026-03-29T02:59:59Z", true},
		{"clock put forward, at 5", zurich, "2026-03-29T03:00:00Z", false},
		{"clock put back from 3 to 2, first 2", zurich, "2026-10-25T00:00:00Z", true},
		{"clock put back, at 4:59", zurich, "2026-10-25T03:59:59Z", true},
		{"clock put back, at 5", zurich, "2026-10-25T04:00:00Z", false},
		{"short, put forward: partly skipped", short, "2026-03-29T01:00:00Z", false},
		{"short, put back: first", short, "2026-10-25T00:15:00Z", true},
		{"short, put back: between", short, "2026-10-25T01:00:00Z", false},
		{"short, put back: second", short, "2026-10-25T01:15:00Z", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.window.Open(at(t, tt.at)); got != tt.want {
				t.Errorf("%s: got %v", tt.at, got)
			}
		})
	}
}

func TestWindowNext(t *testing.T) {
	for name, tt := range map[string]struct{ cron, duration, zone, at, want string }{
		"later today":             {"0 2 * * *", "3h", "", "2026-11-26T01:00:00.5Z", "2026-11-26 02:00:00 UTC"},
		"as it opens":             {"0 2 * * *", "3h", "", "2026-11-26T02:00:00Z", "2026-11-27 02:00:00 UTC"},
		"while it is open":        {"0 2 * * *", "3h", "", "2026-11-26T03:00:00Z", "2026-11-27 02:00:00 UTC"},
		"by another clock":        {"0 2 * * *", "3h", "Europe/Zurich", "2026-11-26T12:00:00Z", "2026-11-27 02:00:00 CET"},
		"next year":               {"0 2 1 1 *", "3h", "America/New_York", "2026-11-26T12:00:00Z", "2027-01-01 02:00:00 EST"},
		"across a change":         {"0 12 * * 0", "3h", "Europe/Zurich", "2026-03-28T12:00:00Z", "2026-03-29 12:00:00 CEST"},
		"in the hour skipped":     {"30 2 * * *", "3h", "Europe/Zurich", "2026-03-28T23:00:00Z", "2026-03-29 03:00:00 CEST"},
		"as the clock jumps":      {"0 3 * * *", "3h", "Europe/Zurich", "2026-03-28T23:00:00Z", "2026-03-29 03:00:00 CEST"},
		"open as the clock jumps": {"0 1 * * *", "6h", "Europe/Zurich", "2026-03-29T00:30:00Z", "2026-03-30 01:00:00 CEST"},
		"all of it skipped":       {"15 2 * * *", "30m", "Europe/Zurich", "2026-03-28T23:00:00Z", "2026-03-30 02:15:00 CEST"},
		"the first of two":        {"15 2 * * *", "30m", "Europe/Zurich", "2026-10-24T23:00:00Z", "2026-10-25 02:15:00 CEST"},
		"the second of two":       {"15 2 * * *", "30m", "Europe/Zurich", "2026-10-25T00:50:00Z", "2026-10-25 02:15:00 CET"},
		"as the clock is back":    {"0 2 * * *", "30m", "Europe/Zurich", "2026-10-25T00:45:00Z", "2026-10-25 02:00:00 CET"},
		"after both":              {"0 2 * * *", "3h", "Europe/Zurich", "2026-10-25T00:45:00Z", "2026-10-26 02:00:00 CET"},
		"half an hour":            {"45 1 * * *", "2h", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-04 01:45:00 +1030"},
		"leap day":                {"0 2 29 2 *", "1h", "", "2026-11-26T12:00:00Z", "2028-02-29 02:00:00 UTC"},
	} {
		t.Run(name, func(t *testing.T) {
			w := window(t, tt.cron, tt.duration, tt.zone)
			if got := w.Next(at(t, tt.at)).Format(stamp); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Wherever the window is closed it is so until it opens next, and open then.
func TestWindowNextIsWhenItOpens(t *testing.T) {
	for _, begin := range []string{"2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"} {
		for _, cron := range []string{"0 2 * * *", "30 2 * * *", "*/20 1-3 * * *", "0 3 * * *"} {
			for _, duration := range []string{"10m", "1h", "3h"} {
				w := window(t, cron, duration, "Europe/Zurich")
				for now, end := at(t, begin), at(t, begin).Add(36*time.Hour); now.Before(end); now = now.Add(20 * time.Minute) {
					checkNext(t, w, now, cron+" "+duration)
				}
			}
		}
	}
}

func checkNext(t *testing.T, w launchspec.Window, now time.Time, name string) {
	t.Helper()
	if w.Open(now) {
		return
	}
	next := w.Next(now)
	if !w.Open(next) {
		t.Errorf("%s: at %s it is said to open at %s, and is closed then", name, now.Format(stamp), next.Format(stamp))
	}
	for ; now.Before(next); now = now.Add(5 * time.Minute) {
		if w.Open(now) {
			t.Errorf("%s: open at %s, before %s", name, now.Format(stamp), next.Format(stamp))
			return
		}
	}
}
