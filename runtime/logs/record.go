package logs

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// Stream is one of the two streams that a container writes.
type Stream string

// The streams, by their names in records.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Entry is one piece of what a container wrote: a line with its newline, or a
// part of one without.
type Entry struct {
	// Time is when it was read from the container.
	Time   time.Time
	Stream Stream
	Data   []byte
}

// maxData is the longest data of one record; longer lines take several.
const maxData = 64 << 10

// maxRecord bounds a record with its header, so that a damaged file cannot
// make a reader take much memory.
const maxRecord = maxData + 128

// timeFormat is RFC 3339 with all nine digits, so that the same record, written again,
// is as long as before.
const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

var errDamaged = errors.New("damaged log record")

// appendRecords appends data as records to buf.
func appendRecords(buf []byte, at time.Time, stream Stream, data []byte) []byte {
	for len(data) > 0 {
		piece, tag, rest := cutRecord(data)
		buf = at.UTC().AppendFormat(buf, timeFormat)
		buf = append(buf, ' ')
		buf = append(buf, stream...)
		buf = append(buf, ' ', tag, ' ')
		buf = append(buf, piece...)
		buf = append(buf, '\n')
		data = rest
	}
	return buf
}

// cutRecord takes the data of one record off data: up to a newline, which is
// not part of it, or what there is.
func cutRecord(data []byte) (piece []byte, tag byte, rest []byte) {
	end := bytes.IndexByte(data, '\n')
	switch {
	case end >= 0 && end <= maxData:
		return data[:end], 'F', data[end+1:]
	case len(data) > maxData:
		return data[:maxData], 'P', data[maxData:]
	}
	return data, 'P', nil
}

// parseRecord reads one record without its final newline. The entry's data
// does not share memory with it.
func parseRecord(record []byte) (Entry, error) {
	stamp, rest, ok := bytes.Cut(record, []byte{' '})
	if !ok {
		return Entry{}, errDamaged
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	name, rest, ok := bytes.Cut(rest, []byte{' '})
	stream := Stream(name)
	if !ok || (stream != Stdout && stream != Stderr) {
		return Entry{}, errDamaged
	}
	if len(rest) < 2 || rest[1] != ' ' || (rest[0] != 'F' && rest[0] != 'P') {
		return Entry{}, errDamaged
	}
	data := make([]byte, 0, len(rest)-1)
	data = append(data, rest[2:]...)
	if rest[0] == 'F' {
		data = append(data, '\n')
	}
	return Entry{Time: at.UTC(), Stream: stream, Data: data}, nil
}

// endsLine reports whether a record, given without its newline, is one that
// ends a line. Damaged ones do not.
func endsLine(record []byte) bool {
	e, err := parseRecord(record)
	return err == nil && len(e.Data) > 0 && e.Data[len(e.Data)-1] == '\n'
}
