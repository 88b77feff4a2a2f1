package loghelper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject/redact"
	"github.com/purserd/purser/runtime/fifo"
	"github.com/purserd/purser/runtime/logs"
)

// stream is one FIFO of an instance, and what becomes of what is in it.
type stream struct {
	instance *instance
	index    int // in the journal
	name     logs.Stream
	file     *os.File
	redactor *redact.Stream
	next     atomic.Pointer[redact.Matcher] // to go on with; nil for the same
	counted  uint64                         // redactions that are in the counters
	shown    bool                           // what is held back now, a reader has been told of

	// tail is the end of all input, as much as can be held back.
	tail []byte
	// skip is how many bytes are still to be dropped after a gap in what is known.
	skip int

	out     []byte // redacted, about to be stored
	scratch []byte // for what is dropped
	lost    loss   // that the writer does not know of
	handed  int    // bytes lost that it does know of, and has not told in the log yet

	ended chan struct{}
	meter fifo.Meter // of batches
}

// Silence is the time after which a reader is shown what is held back, as it is or as
// "[partial]". With many values most letters begin one, and what is typed on a terminal
// comes back through here.
const Silence = 50 * time.Millisecond

// run reads until the FIFO's end, or until it is told to stop.
func (s *stream) run() {
	defer close(s.ended)
	for {
		err := s.await()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && s.instance.halted() == ending:
			s.giveUp()
			return
		case errors.Is(err, os.ErrDeadlineExceeded) && s.instance.halted() == leaving:
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.batch(s.flush)
		case err != nil:
			return
		case s.batch(s.take) != nil:
			return
		}
	}
}

// await waits until there is something to read or nothing will ever be. Unlike a
// read it does not take a FIFO for ended that nobody has opened for writing yet,
// and needs no memory for what is to come.
func (s *stream) await() error {
	deadline := time.Time{}
	if s.redactor.Held() > 0 && !s.shown {
		deadline = time.Now().Add(Silence)
	}
	if err := s.setDeadline(deadline); err != nil {
		return err
	}
	conn, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 && err == nil
	})
}

// setDeadline does nothing once the stream has been told to stop.
func (s *stream) setDeadline(at time.Time) error {
	s.instance.stopping.Lock()
	defer s.instance.stopping.Unlock()
	if s.instance.how != running {
		return os.ErrDeadlineExceeded
	}
	return s.file.SetReadDeadline(at)
}

// batch does one thing with the instance's journal, or, while the disk does not
// answer, without.
func (s *stream) batch(do func() error) error {
	s.meter.Begin()
	defer s.meter.End()
	if s.instance.spec.Drop {
		return s.drop(errUnknownValues)
	}
	if !s.instance.acquire() {
		return s.drop(errHangs)
	}
	return do()
}

// take stores what there is in the FIFO.
func (s *stream) take() error {
	available, err := s.available()
	if err != nil {
		s.instance.release()
		return err
	}
	data, err := s.instance.journal.read(s.index, available, s.read)
	if err != nil || len(data) == 0 {
		if err == nil {
			return s.finish()
		}
		s.instance.release()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return nil
		}
		return err
	}
	s.keep(data)
	return nil
}

// giveUp takes what is in the FIFO at the end, although others have it open for writing.
func (s *stream) giveUp() {
	for range pipeSize / areaSize {
		if n, err := s.available(); n == 0 || err != nil {
			break
		}
		if s.batch(s.take) != nil {
			return
		}
	}
	if n, _ := s.available(); n > 0 {
		s.lose(n, errEnded)
	}
	if s.instance.acquire() {
		_ = s.finish()
	}
}

// pipeSize is what a FIFO holds.
const pipeSize = 64 << 10

// keep redacts what is in the journal and has it stored.
func (s *stream) keep(data []byte) { s.keepSince(time.Now(), data) }

// keepSince is keep for what was read at a time.
func (s *stream) keepSince(when time.Time, data []byte) {
	s.renew()
	text := s.skipped(data)
	s.remember(text)
	s.out = s.redactor.Append(s.out[:0], text)
	s.shown = false
	s.store(when, len(data))
}

// skipped drops the beginning of data that may be the rest of a value of which nobody
// knows the beginning.
func (s *stream) skipped(data []byte) []byte {
	n := min(s.skip, len(data))
	if n > 0 {
		s.skip -= n
		s.lose(n, errGap)
	}
	return data[n:]
}

// longestHold is more than what a redact.Stream holds back of its input, and than what
// of a value can follow that.
const longestHold = 512

// remember keeps the end of what has been read.
func (s *stream) remember(data []byte) {
	if len(data) >= longestHold {
		s.tail = append(s.tail[:0], data[len(data)-longestHold:]...)
		return
	}
	s.tail = append(s.tail, data...)
	if over := len(s.tail) - longestHold; over > 0 {
		s.tail = s.tail[:copy(s.tail, s.tail[over:])]
	}
}

// renew goes on with other values. Only after data has been read: what was written
// before they were set may have been read already, what is written later must be
// searched for them.
func (s *stream) renew() {
	if m := s.next.Swap(nil); m != nil {
		s.redactor.Swap(m)
	}
}

// flush shows what is held back.
func (s *stream) flush() error {
	s.out = s.redactor.Flush(s.out[:0])
	s.shown = true
	s.store(time.Now(), 0)
	return nil
}

// finish, with the turn, stores what is held back at the end of the FIFO.
func (s *stream) finish() error {
	s.out = s.redactor.Close(s.out[:0])
	s.tail = s.tail[:0]
	s.store(time.Now(), 0)
	return io.EOF
}

// store hands on what is redacted. It came of so many bytes of the journal.
func (s *stream) store(when time.Time, n int) {
	s.count()
	s.instance.store(s, when, n, s.instance.journal.stage(s.index, s.pending(), s.shown))
}

// pending are the bytes that are held back.
func (s *stream) pending() []byte {
	return s.tail[max(0, len(s.tail)-s.redactor.Held()):]
}

// count adds the redactions since the last time to the counters.
func (s *stream) count() {
	n := s.redactor.Redactions()
	s.instance.counters.redacted(n - s.counted)
	s.counted = n
}

// drop takes what there is in the FIFO, so that the container is not kept waiting.
func (s *stream) drop(why error) error {
	if s.scratch == nil {
		s.scratch = make([]byte, areaSize)
	}
	// Before it is out of the FIFO: a helper that dies then knows nothing of it.
	s.instance.journal.setGap(s.index, true)
	n, err := s.read(s.scratch)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	s.renew()
	// So that it knows what comes after.
	s.remember(s.scratch[:n])
	s.out = s.redactor.Append(s.out[:0], s.scratch[:n])
	s.lose(n, why)
	return nil
}

func (s *stream) lose(n int, why error) {
	s.instance.counters.lose(n)
	s.instance.journal.drop(s.index, n)
	s.lost = loss{bytes: s.lost.bytes + n, why: why}
}

func (s *stream) takeLost() loss {
	lost := s.lost
	s.lost = loss{}
	return lost
}

// Why output is dropped.
var (
	errHangs         = fmt.Errorf("the disk did not answer for %s", patience)
	errUnknownValues = errors.New("the secrets that it may hold could not be read")
	errGap           = errors.New("what came before is not known, of which it may be the rest")
	errKilled        = errors.New("the log helper ended before it could tell why")
	errEnded         = errors.New("the container has ended, and something went on writing")
)

// available is how many bytes are in the FIFO.
func (s *stream) available() (n int, err error) {
	err = s.control(func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err
	})
	return n, err
}

// read is one system call, which does not wait.
func (s *stream) read(to []byte) (n int, err error) {
	err = s.control(func(fd int) (err error) {
		n, err = unix.Read(fd, to)
		return err
	})
	return n, err
}

func (s *stream) control(do func(fd int) error) error {
	conn, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// recover brings the redaction to where an earlier helper left it.
func (s *stream) recover() {
	if n := s.instance.journal.untold(s.index); n > 0 {
		s.lost = loss{bytes: n, why: errKilled}
	}
	if s.instance.journal.gap(s.index) {
		s.skip = longestHold
	}
	before, shown := s.instance.journal.pending(s.index)
	if len(before) == 0 {
		return
	}
	s.remember(before)
	_ = s.redactor.Append(nil, before) // all of it is held back again
	if shown {
		_ = s.redactor.Flush(nil)
		s.shown = true
	}
	s.counted = s.redactor.Redactions()
}
