package loghelper

import (
	"bytes"

	systemd "github.com/coreos/go-systemd/v22/journal"

	"github.com/purserd/purser/runtime/logs"
)

// journaldLine is how long a line may be that journald gets in one piece, as with
// journald's own LineMax.
const journaldLine = 48 << 10

// journald sends lines to systemd's journal. It has no lines that are not whole: what
// a stream ends with is one.
type journald struct {
	send    func(message string, priority systemd.Priority, fields map[string]string) error
	fields  map[string]string
	unended map[logs.Stream][]byte
}

// newJournald returns nil for an instance whose output is for files alone.
func newJournald(spec Spec) *journald {
	if !spec.Journald {
		return nil
	}
	return &journald{send: systemd.Send, unended: map[logs.Stream][]byte{}, fields: map[string]string{
		"SYSLOG_IDENTIFIER":  spec.About.Workload,
		"PURSER_ENVIRONMENT": spec.About.Environment,
		"PURSER_APP":         spec.About.App,
		"PURSER_WORKLOAD":    spec.About.Workload,
		"PURSER_INSTANCE":    spec.Instance,
	}}
}

// write sends the lines that data completes. A journal that is not there is no
// reason for anything: the files have it all.
func (j *journald) write(stream logs.Stream, data []byte) {
	if j == nil {
		return
	}
	rest := append(j.unended[stream], data...)
	for {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 && len(rest) < journaldLine {
			break
		}
		if end < 0 || end > journaldLine {
			j.line(stream, rest[:journaldLine])
			rest = rest[journaldLine:]
			continue
		}
		j.line(stream, rest[:end])
		rest = rest[end+1:]
	}
	j.unended[stream] = append(j.unended[stream][:0], rest...)
}

func (j *journald) line(stream logs.Stream, line []byte) {
	priority := systemd.PriInfo
	if stream == logs.Stderr {
		priority = systemd.PriErr
	}
	_ = j.send(string(line), priority, j.fields)
}

// close sends what has no end.
func (j *journald) close() {
	if j == nil {
		return
	}
	for _, stream := range []logs.Stream{logs.Stdout, logs.Stderr} {
		if rest := j.unended[stream]; len(rest) > 0 {
			j.line(stream, rest)
		}
	}
}
