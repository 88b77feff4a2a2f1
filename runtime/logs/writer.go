package logs

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/purserd/purser/failpoint"
)

// Limits bound what is kept of one instance's output.
type Limits struct {
	// Size of a segment, in bytes, after which the next is begun.
	Size int64
	// Segments that are kept.
	Segments int
}

// Writer appends to the log of one instance. One goroutine at a time may use it.
// Nothing that goes wrong is for ever: each write tries again what is to be made.
type Writer struct {
	dir    string
	about  About
	limits Limits

	file *os.File // the newest segment; nil until it could be opened
	at   Position // the end of its whole records
	buf  []byte
	lost map[Stream]loss
}

// loss is what could not be kept, and has not been told in the log yet.
type loss struct {
	bytes int
	why   error
}

// Writer returns a writer that goes on where an earlier one ended. There may be one
// at a time. A record that the earlier one left unfinished is removed.
func (s *Store) Writer(instance string, about About, limits Limits) (*Writer, error) {
	dir, err := s.path(instance)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, about: about, limits: limits, lost: map[Stream]loss{}}
	// What cannot be made now may be when there is something to write.
	_ = w.open()
	return w, nil
}

// open opens the newest segment, or begins the first.
func (w *Writer) open() error {
	if w.file != nil {
		return nil
	}
	all, err := w.makeDir()
	if err != nil {
		return err
	}
	n := 1
	if len(all) > 0 {
		n = all[len(all)-1]
	}
	f, err := os.OpenFile(segmentPath(w.dir, n), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	size, err := wholeRecords(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Chmod(0o600) // one that had been marked as complete goes on
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w.file, w.at = f, Position{Segment: n, Offset: size}
	return nil
}

func (w *Writer) makeDir() (segmentsThere []int, err error) {
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return nil, err
	}
	if err := writeAbout(w.dir, w.about); err != nil {
		return nil, err
	}
	return segments(w.dir)
}

// Position is where the next record is written to, unless a segment is full.
func (w *Writer) Position() Position { return w.at }

// Rewind removes what one [Writer.Write] may have written at a position: in its
// segment or, if that was full, in the next. It does nothing where nothing was.
func (w *Writer) Rewind(to Position) error {
	if w.file != nil && to.Segment > 0 && to.Segment == w.at.Segment-1 {
		to = Position{Segment: w.at.Segment}
	}
	if w.file == nil || to.Segment != w.at.Segment || to.Offset >= w.at.Offset {
		return nil
	}
	if err := w.file.Truncate(to.Offset); err != nil {
		return fmt.Errorf("rewinding the log in %s: %w", w.dir, err)
	}
	w.at = to
	return nil
}

// Write appends data that was read from the stream just now. On an error nothing of
// it is kept, and a later write says in the log how much was lost.
func (w *Writer) Write(at time.Time, stream Stream, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	err := w.append(at, stream, data)
	if err != nil {
		w.Lose(stream, len(data), err)
	}
	return err
}

// Lose notes that so many bytes of a stream were not kept, for a reason that is told
// in the log when that can be written again.
func (w *Writer) Lose(stream Stream, n int, why error) {
	w.lost[stream] = loss{bytes: w.lost[stream].bytes + n, why: why}
}

func (w *Writer) append(at time.Time, stream Stream, data []byte) error {
	if err := w.open(); err != nil {
		return err
	}
	w.buf = w.buf[:0]
	if lost := w.lost[stream]; lost.bytes > 0 {
		w.buf = appendRecords(w.buf, at, stream, lost.line())
	}
	w.buf = appendRecords(w.buf, at, stream, data)
	if w.at.Offset > 0 && w.limits.Size > 0 && w.at.Offset+int64(len(w.buf)) > w.limits.Size {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	if _, err := w.file.WriteAt(w.buf, w.at.Offset); err != nil {
		// On a full disk part of it may be there, which WriteAt does not always tell;
		// shrinking always works.
		return errors.Join(err, w.file.Truncate(w.at.Offset))
	}
	failpoint.Here("output.written")
	w.at.Offset += int64(len(w.buf))
	delete(w.lost, stream)
	return nil
}

// line is what a reader is told of a loss.
func (l loss) line() []byte {
	return fmt.Appendf(nil, "[purser: %d bytes of output are lost here: %s]\n", l.bytes, reason(l.why))
}

// reason is the plain cause of an error, without the paths around it.
func reason(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return err.Error()
}

// rotate begins the next segment, and removes the oldest.
func (w *Writer) rotate() error {
	next := w.at.Segment + 1
	f, err := os.OpenFile(segmentPath(w.dir, next), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	failpoint.Here("output.rotated")
	_ = w.file.Close() // all of it is written
	w.file, w.at = f, Position{Segment: next}
	w.removeOldest()
	return nil
}

// removeOldest keeps to the number of segments. What it cannot remove is left to the
// next time: output is worth more than its limits.
func (w *Writer) removeOldest() {
	all, _ := segments(w.dir)
	for len(all) > max(w.limits.Segments, 1) {
		_ = os.Remove(segmentPath(w.dir, all[0]))
		failpoint.Here("output.removed")
		all = all[1:]
	}
}

// Close ends the log: those that follow it end when they have read it all.
func (w *Writer) Close() error {
	for stream, lost := range w.lost {
		if lost.bytes > 0 {
			// What a next write would have told. On a disk that is full still, it
			// is the metric that tells.
			_ = w.append(time.Now(), stream, nil)
		}
	}
	return errors.Join(w.Leave(), endSegments(w.dir))
}

// Leave lets go of the log, which another writer goes on with.
func (w *Writer) Leave() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}
