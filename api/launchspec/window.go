package launchspec

import (
	"strings"
	"time"
	_ "time/tzdata" // a node may lack the database, and its commands run elsewhere

	"github.com/robfig/cron/v3"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Window is when changes of secrets are carried out: it opens by a schedule and stays
// open for a while, both by the clock of its time zone. An hour that this clock skips is
// lacking from the window, and one that it shows twice belongs to it twice.
type Window struct {
	schedule cron.Schedule
	duration time.Duration
	zone     *time.Location
}

// RotationWindow is the window of a workload; false when any time will do.
func RotationWindow(s *purserv1.LaunchSpec) (Window, bool) {
	w := s.GetRotation().GetWindow()
	schedule, wrong := parseSchedule(w.GetCron())
	duration, ok := durationIfSet(w.GetDuration())
	zone, err := loadZone(w.GetTimezone())
	if w == nil || wrong != "" || !ok || err != nil {
		return Window{}, false
	}
	return Window{schedule, duration, zone}, true
}

// Open tells whether the window is open.
func (w Window) Open(t time.Time) bool {
	now := w.clock(t)
	opened := w.schedule.Next(now.Add(-w.duration))
	return !opened.IsZero() && !opened.After(now)
}

// Next is when the window opens next, by its own clock; zero when it does not within
// five years.
func (w Window) Next(t time.Time) time.Time {
	t = t.Round(0).In(w.zone)
	for {
		now := w.clock(t)
		opens := w.schedule.Next(now)
		if opens.IsZero() {
			return opens
		}
		// Between changes of the clock it is as long by the clock as it is.
		next := t.Add(opens.Sub(now))
		_, change := t.ZoneBounds()
		if change.IsZero() || next.Before(change) {
			return next
		}
		if w.Open(change) && !w.Open(change.Add(-time.Nanosecond)) {
			return change
		}
		t = change
	}
}

// clock is what the clock of the window's zone shows, as a time in UTC: schedules know
// of no changes of the clock.
func (w Window) clock(t time.Time) time.Time {
	_, offset := t.In(w.zone).Zone()
	return t.Round(0).UTC().Add(time.Duration(offset) * time.Second)
}

// cronFields are the fields of a schedule, in their order.
var cronFields = []string{"minute", "hour", "day of the month", "month", "day of the week"}

var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// parseSchedule reads crontab's five fields, and says what is wrong with them without
// repeating them.
func parseSchedule(text string) (schedule cron.Schedule, wrong string) {
	fields := strings.Fields(text)
	if len(fields) != len(cronFields) {
		return nil, "must have the five fields of crontab: minute, hour, day of the month, month and day of the week, as in \"0 2 * * *\""
	}
	for i, name := range cronFields {
		alone := []string{"*", "*", "*", "*", "*"}
		alone[i] = fields[i]
		if _, err := cronParser.Parse(strings.Join(alone, " ")); err != nil {
			return nil, "has no valid " + name + ": want crontab's *, 5, 1-5, */5 or a list of these, and within bounds, of which Sunday is 0"
		}
	}
	schedule, err := cronParser.Parse(text)
	if err != nil || schedule.Next(anyTime).IsZero() {
		return nil, "must be a time that comes"
	}
	return schedule, ""
}

// anyTime is one after which every day of a calendar comes within five years.
var anyTime = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// loadZone finds a time zone by name, but not the machine's own: it is another on the next.
func loadZone(name string) (*time.Location, error) {
	if name == "Local" {
		name = "/"
	}
	return time.LoadLocation(name)
}

// window checks when changes of secrets may be carried out.
func (c *collector) window(w *purserv1.Window) {
	if w == nil {
		return
	}
	at := path{"rotation", "window"}
	if _, wrong := parseSchedule(w.GetCron()); w.GetCron() != "" && wrong != "" {
		c.add(at.join("cron"), "window.cron", "%s", wrong)
	}
	c.duration(at.join("duration"), w.GetDuration(), time.Nanosecond)
	if _, err := loadZone(w.GetTimezone()); err != nil {
		c.add(at.join("timezone"), "window.timezone", "must be a time zone of the IANA database, such as Europe/Zurich")
	}
}
