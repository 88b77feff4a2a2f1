package loghelper

import (
	"bytes"
	"fmt"

	systemd "github.com/coreos/go-systemd/v22/journal"

	"github.com/purserd/purser/runtime/logs"
)

const (
	// journaldLine is how long a line may be that journald gets in one piece, as with
	// journald's own LineMax.
	journaldLine = 48 << 10
	// journaldQueue is how many batches may wait for journald. When there are more,
	// they are not sent: the files have them.
	journaldQueue = 64
)

// journald sends lines to systemd's journal, beside who stores them: a journal that
// does not read keeps nobody waiting. It has no lines that are not whole: what a
// stream ends with is one.
type journald struct {
	sendLine func(message string, priority systemd.Priority, fields map[string]string) error
	fields   map[string]string
	unended  map[logs.Stream][]byte

	queue   chan batch
	dropped int           // bytes, since they were told of
	ended   chan struct{} // closed when all has been sent
}

// batch is what was stored of a stream at one time.
type batch struct {
	stream  logs.Stream
	data    []byte
	dropped int // before it
}

// newJournald returns nil for an instance whose output is for files alone.
func newJournald(spec Spec) *journald {
	if !spec.Journald {
		return nil
	}
	return &journald{
		sendLine: systemd.Send, unended: map[logs.Stream][]byte{},
		queue: make(chan batch, journaldQueue), ended: make(chan struct{}),
		fields: map[string]string{
			"SYSLOG_IDENTIFIER":  spec.About.Workload,
			"PURSER_ENVIRONMENT": spec.About.Environment,
			"PURSER_APP":         spec.About.App,
			"PURSER_WORKLOAD":    spec.About.Workload,
			"PURSER_INSTANCE":    spec.Instance,
		},
	}
}

// run sends what is queued until close.
func (j *journald) run() {
	if j == nil {
		return
	}
	defer close(j.ended)
	for b := range j.queue {
		if b.dropped > 0 {
			j.line(b.stream, fmt.Appendf(nil, "[purser: %d bytes of output were not sent to the journal, which did not read]", b.dropped))
		}
		j.lines(b.stream, b.data)
	}
	for _, stream := range []logs.Stream{logs.Stdout, logs.Stderr} {
		if rest := j.unended[stream]; len(rest) > 0 {
			j.line(stream, rest)
		}
	}
}

// send queues data, which the caller may overwrite.
func (j *journald) send(stream logs.Stream, data []byte) {
	if j == nil {
		return
	}
	select {
	case j.queue <- batch{stream, bytes.Clone(data), j.dropped}:
		j.dropped = 0
	default:
		j.dropped += len(data)
	}
}

// close has the rest sent. It does not wait for a journal that does not read.
func (j *journald) close() {
	if j != nil {
		close(j.queue)
	}
}

// lines sends the lines that data completes.
func (j *journald) lines(stream logs.Stream, data []byte) {
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

// line sends one line. A journal that is not there is no reason for anything: the
// files have it all.
func (j *journald) line(stream logs.Stream, line []byte) {
	priority := systemd.PriInfo
	if stream == logs.Stderr {
		priority = systemd.PriErr
	}
	_ = j.sendLine(string(line), priority, j.fields)
}
