package loghelper

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/runtime/fifo"
	"github.com/purserd/purser/runtime/logs"
)

// patience is how long a container waits for a disk that does not answer.
const patience = 3 * time.Second

// instance is what the helper has of one container.
type instance struct {
	spec     Spec
	files    files
	counters *counters
	values   []*compilation // all that were used: others with the same share them
	journal  *journal
	writer   *logs.Writer // used by who has the turn, and by write
	streams  []*stream

	// turn has one element while the journal and the writer are free.
	turn chan struct{}
	// hangs: whoever has the turn is waiting for the disk, for too long already.
	hangs atomic.Bool
	jobs  chan job
	done  chan error // what came of a job
	timer *time.Timer

	stopping sync.Mutex
	how      halt

	written chan struct{} // closed when the writer has ended
	over    chan struct{} // closed when the helper has forgotten it
}

// job is something to be stored.
type job struct {
	at     time.Time
	stream logs.Stream
	data   []byte
	lost   loss // before data
}

// loss is what was dropped, and why.
type loss struct {
	bytes int
	why   error
}

// openInstance takes an instance up, where an earlier helper has left it.
func openInstance(f files, spec Spec, values *compilation, c *counters) (*instance, error) {
	i := &instance{
		spec: spec, files: f, counters: c, values: []*compilation{values},
		turn: make(chan struct{}, 1), jobs: make(chan job), done: make(chan error, 1), timer: time.NewTimer(patience),
		written: make(chan struct{}), over: make(chan struct{}),
	}
	store, err := logs.Open(spec.LogDir)
	if err != nil {
		return nil, err
	}
	if i.writer, err = store.Writer(spec.Instance, spec.About, spec.Limits); err != nil {
		return nil, err
	}
	if i.journal, err = openJournal(f.journal(), spec.Middle); err != nil {
		return nil, errors.Join(err, i.writer.Leave())
	}
	if err := i.openStreams(); err != nil {
		return nil, errors.Join(err, i.writer.Leave(), i.journal.close())
	}
	go i.write()
	i.turn <- struct{}{}
	i.recover()
	return i, nil
}

func (i *instance) openStreams() error {
	for n, o := range []struct {
		path string
		name logs.Stream
	}{{i.spec.Stdout, logs.Stdout}, {i.spec.Stderr, logs.Stderr}} {
		if o.path == "" {
			continue
		}
		f, err := fifo.Open(o.path)
		if err != nil {
			i.closeFIFOs()
			return fmt.Errorf("opening the output of %s: %w", i.spec.Instance, err)
		}
		i.streams = append(i.streams, &stream{
			instance: i, index: n, name: o.name, file: f, redactor: i.values[0].compile().Stream(), ended: make(chan struct{}),
		})
	}
	return nil
}

// keepCompilation has a compilation found by instances with the same values.
func (i *instance) keepCompilation(c *compilation) {
	i.stopping.Lock()
	defer i.stopping.Unlock()
	i.values = append(i.values, c)
}

func (i *instance) closeFIFOs() {
	for _, s := range i.streams {
		s.file.Close()
	}
}

// recover stores what an earlier helper had taken out of a FIFO and not stored. The
// writer is not at work yet.
func (i *instance) recover() {
	which, data, again := i.journal.unfinished()
	when := time.Now()
	if again != nil {
		// On an error something is in the log twice, which is better than not at all.
		_ = i.writer.Rewind(again.to)
		when = again.when
	}
	for _, s := range i.streams {
		s.recover()
	}
	if len(data) > 0 && which < len(i.streams) && i.acquire() {
		i.streams[which].keepSince(when, data)
	}
}

// run reads the streams to their end, and then ends the log.
func (i *instance) run() {
	for _, s := range i.streams {
		go s.run()
	}
	i.finish()
}

// finish ends the log, or leaves it, once the streams have ended.
func (i *instance) finish() {
	for _, s := range i.streams {
		<-s.ended
	}
	<-i.turn // never given back
	close(i.jobs)
	<-i.written
	i.closeFIFOs()
	_ = i.journal.close()
}

// write stores what it is given. It is a goroutine of its own, as a write to a disk
// may take for ever.
func (i *instance) write() {
	w, journald := i.writer, newJournald(i.spec)
	defer close(i.written)
	go journald.run()
	defer journald.close()
	for j := range i.jobs {
		if j.lost.bytes > 0 {
			w.Lose(j.stream, j.lost.bytes, j.lost.why)
		}
		journald.send(j.stream, j.data)
		i.done <- w.Write(j.at, j.stream, j.data)
	}
	for _, s := range i.streams { // which have ended
		if lost := s.takeLost(); lost.bytes > 0 {
			w.Lose(s.name, lost.bytes, lost.why)
		}
	}
	if i.halted() == leaving {
		_ = w.Leave()
		return
	}
	_ = w.Close()
}

// acquire waits for the turn, but not for a disk that does not answer.
func (i *instance) acquire() bool {
	select {
	case <-i.turn:
		return true
	default:
	}
	if i.hangs.Load() {
		return false
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-i.turn:
		return true
	case <-late.C:
		return false
	}
}

func (i *instance) release() { i.turn <- struct{}{} }

// store has the writer append what a stream has redacted, of n bytes in the journal,
// and gives the turn back: at once, or when the disk has answered.
func (i *instance) store(s *stream, when time.Time, n int, staged held) {
	if len(s.out) == 0 && s.lost.bytes == 0 {
		i.commit(s.index, staged)
		i.release()
		return
	}
	i.journal.store(s.index, n, i.writer.Position(), when)
	failpoint.Here("output.storing")
	lost := s.takeLost()
	s.handed += lost.bytes
	i.jobs <- job{at: when, stream: s.name, data: s.out, lost: lost}
	i.timer.Reset(patience)
	select {
	case err := <-i.done:
		i.settle(s, staged, len(s.out), err)
	case <-i.timer.C:
		i.hangs.Store(true)
		stuck := len(s.out)
		s.out = nil // the writer's now
		go func() { i.settle(s, staged, stuck, <-i.done) }()
	}
}

// settle gives the turn back once the writer is done.
func (i *instance) settle(s *stream, staged held, size int, err error) {
	if err != nil {
		// The writer tells of it, too, with what it can write next.
		i.counters.lose(size)
		i.journal.drop(s.index, size)
		s.handed += size
	}
	i.commit(s.index, staged)
	if err == nil && size > 0 && s.handed > 0 {
		// With what was written. Last: a helper that is killed here has it told twice,
		// rather than never.
		i.journal.told(s.index, s.handed)
		s.handed = 0
	}
	i.hangs.Store(false)
	i.release()
}

// commit has the next helper go on from here.
func (i *instance) commit(stream int, staged held) {
	hung := i.hangs.Load()
	i.journal.commit(stream, staged)
	if !hung {
		// What was dropped before is in what is held back, as far as it counts. What
		// was dropped since it was staged is not.
		i.journal.setGap(stream, false)
	}
}

// halt says how an instance ends.
type halt int

const (
	running halt = iota
	// ending: what is in the FIFOs is given up, and the log ends.
	ending
	// leaving: another helper goes on with all of it.
	leaving
)

// halt ends the streams between two batches.
func (i *instance) halt(how halt) {
	i.stopping.Lock()
	defer i.stopping.Unlock()
	if i.how != running {
		return
	}
	i.how = how
	for _, s := range i.streams {
		_ = s.file.SetReadDeadline(time.Unix(1, 0))
	}
}

func (i *instance) halted() halt {
	i.stopping.Lock()
	defer i.stopping.Unlock()
	return i.how
}

// drain waits until all has been stored, or until nothing has come for a while.
func (i *instance) drain(quiet time.Duration) {
	meters := make([]*fifo.Meter, len(i.streams))
	for n, s := range i.streams {
		meters[n] = &s.meter
	}
	fifo.Await(i.over, quiet, meters...)
}
