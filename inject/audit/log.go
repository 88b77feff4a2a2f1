package audit

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject/internal/durable"
	"github.com/purserd/purser/inject/keyring"
)

// Options of [Open]. The zero value is good.
type Options struct {
	// FileSize is about how large a file becomes; 16 MiB when 0.
	FileSize int64
	// Files is how many are kept, that which is written to included; 16 when 0.
	Files int
	// Interval is within what time a record is on disk and sealed; 500 ms when 0.
	Interval time.Duration
	// Note is a text for the record of this opening.
	Note string
	// Warn is told what goes wrong apart from the calls, and of damage. It may not
	// call the log.
	Warn func(error)
	// Written is told of each record that is written. It may not call the log.
	Written func(Action)
	// Synced is told that all records are on disk, and none is lost that is not counted
	// there. It may not call the log.
	Synced func()

	// sync syncs a file; another one in tests, whose disks do not fail.
	sync func(*os.File) error
}

func (o Options) complete() Options {
	o.FileSize = cmp.Or(o.FileSize, 16<<20)
	o.Files = max(cmp.Or(o.Files, 16), 1)
	o.Interval = cmp.Or(o.Interval, 500*time.Millisecond)
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	if o.Written == nil {
		o.Written = func(Action) {}
	}
	if o.Synced == nil {
		o.Synced = func() {}
	}
	if o.sync == nil {
		o.sync = (*os.File).Sync
	}
	return o
}

// DamageError says that the trail is not what was written.
type DamageError struct{ Text string }

func (e *DamageError) Error() string { return "the audit trail was changed: " + e.Text }

// Log is an open trail. It is safe for concurrent use.
type Log struct {
	dir     string
	options Options
	heads   Heads
	key     key // of records
	headKey key

	refusals refusals
	queue    queue

	// flushing is held while files are synced and the head is sealed. It is taken
	// before mu.
	flushing sync.Mutex
	sealed   head
	// verifying keeps files from being removed under a reader of them all.
	verifying sync.RWMutex

	// mu guards what follows. It is held during a write, for which the disk may take
	// its time, and not while the disk syncs. Note does not take it.
	mu    sync.Mutex
	file  *os.File // that is written to; nil before the first record
	size  int64    // of it
	last  head     // the newest record; Oldest is the oldest that is kept
	files []uint64 // by their first records, oldest first
	// fresh makes the next record begin a file: the one before can't be gone on with.
	fresh bool
	torn  bool // bytes behind size could not be cut off
	// unsynced are earlier files that were written to since the last flush.
	unsynced []*os.File
	made     bool   // a file was made since then
	doubted  Record // to be written: of records that could not be synced; Count is 0 without any
	lost     uint64 // records since the last one that could be written
	closed   bool
	more     chan struct{} // closed and replaced by each record

	dirty   chan struct{} // of capacity 1
	closing chan struct{}
	done    chan struct{}
}

// Open opens the trail in a directory, which it makes when there is none. Damage is
// no error: it goes to Options.Warn, and into the record of the opening. One process
// at a time may have a trail open; the caller sees to that.
func Open(dir string, keys *keyring.Keyring, heads Heads, options Options) (*Log, error) {
	l := &Log{
		dir: dir, options: options.complete(), heads: heads,
		key: keys.Derive("audit record"), headKey: keys.Derive("audit head"),
		more: make(chan struct{}), dirty: make(chan struct{}, 1),
		closing: make(chan struct{}), done: make(chan struct{}), queue: newQueue(),
	}
	l.refusals.log = l
	if err := durable.MakeDirs(dir); err != nil {
		return nil, fmt.Errorf("making the directory of the audit trail: %w", err)
	}
	found, err := l.recover()
	if err != nil {
		return nil, err
	}
	go l.keepSynced()
	go l.writeQueued()
	l.noteOpening(found)
	return l, nil
}

// noteOpening records the opening, with what was found. A disk that is full keeps
// no agent from starting.
func (l *Log) noteOpening(found finding) {
	r := Record{Action: Opened, Outcome: Done, Why: l.options.Note}
	if found.note != "" {
		r.Why = found.note
	}
	if found.damaged {
		r.Outcome = Damaged
		l.options.Warn(&DamageError{Text: found.note})
	}
	if _, err := l.Append(r); err != nil {
		l.options.Warn(err)
	}
}

// writePending writes a record that was handed over, behind one of those that are
// missing.
func (l *Log) writePending(n *Pending) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.lost > 0 {
		l.lost += n.lost
		return 0, l.appendMissing()
	}
	err := l.appendMissing()
	if err == nil {
		err = l.append(n.record.numbered())
	}
	if err != nil {
		l.lost++
		return 0, err
	}
	return l.last.Seq, nil
}

// Commit is Append that returns once the record is on disk and the head sealed. A
// record that could be written and not be made durable stays in the trail.
func (l *Log) Commit(r Record) (uint64, error) {
	seq, err := l.Append(r)
	if err != nil {
		return 0, err
	}
	l.flushing.Lock()
	defer l.flushing.Unlock()
	if l.sealed.Seq >= seq {
		return seq, nil // another one's flush had it
	}
	return seq, l.flush()
}

// appendMissing records what is missing or may be. The caller holds mu.
func (l *Log) appendMissing() error {
	if err := l.appendUnsynced(); err != nil {
		return err
	}
	return l.appendLost()
}

// appendLost records that there are records missing. The caller holds mu.
func (l *Log) appendLost() error {
	if l.lost == 0 {
		return nil
	}
	err := l.append(Record{Action: Lost, Outcome: Failed, Count: l.lost, Why: "they could not be written; the agent's log has the reason"})
	if err != nil {
		return err
	}
	l.lost = 0
	return nil
}

// append writes one record. The caller holds mu.
func (l *Log) append(r Record) error {
	if l.closed {
		return fs.ErrClosed
	}
	if r.Time.IsZero() {
		r.Time = time.Now().UTC()
	}
	r.Seq, r.Prev = l.last.Seq+1, l.last.MAC
	text, mac, err := l.key.seal(r)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	failpoint.Here("audit.append")
	if err := l.write(text, r.Seq); err != nil {
		return fmt.Errorf("writing the audit trail: %w", err)
	}
	failpoint.Here("audit.appended")
	l.last.Seq, l.last.MAC, l.last.File, l.last.Offset = r.Seq, mac, l.files[len(l.files)-1], l.size-int64(len(text))
	close(l.more)
	l.more = make(chan struct{})
	wake(l.dirty)
	l.options.Written(r.Action)
	return nil
}

// write puts a line where it belongs: into the file there is, or into a new one.
func (l *Log) write(text []byte, seq uint64) error {
	if err := l.cutTorn(); err != nil {
		return err
	}
	if l.file != nil && !l.fresh && l.foreign() {
		l.fresh = true
		l.options.Warn(&DamageError{Text: fmt.Sprintf("%s is not as it was left; the trail goes on in another file", l.file.Name())})
	}
	if l.file == nil || l.fresh || l.size > 0 && l.size+int64(len(text)) > l.options.FileSize {
		return l.begin(text, seq)
	}
	n, err := l.file.Write(text)
	if err == nil {
		l.size += int64(n)
		return nil
	}
	if n > 0 {
		l.torn = true
		err = errors.Join(err, l.cutTorn())
	}
	return err
}

// cutTorn cuts off what a write has left that failed half-way.
func (l *Log) cutTorn() error {
	if !l.torn {
		return nil
	}
	if err := l.file.Truncate(l.size); err != nil {
		return err
	}
	l.torn = false
	return nil
}

// foreign says whether something else has changed or removed the file.
func (l *Log) foreign() bool {
	info, err := l.file.Stat()
	if err != nil {
		return true
	}
	return info.Size() != l.size || info.Sys().(*syscall.Stat_t).Nlink == 0
}

// begin makes the file that a line is the first of. When that fails, the file before
// stays the one that is written to.
func (l *Log) begin(text []byte, seq uint64) error {
	file, err := os.OpenFile(l.path(seq), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := file.Write(text); err != nil {
		return errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	if l.file != nil {
		l.unsynced = append(l.unsynced, l.file)
	}
	l.file, l.size, l.fresh, l.made = file, int64(len(text)), false, true
	l.files = append(slices.Clip(l.files), seq)
	return nil
}

// Close makes all records durable. Every later one fails with [fs.ErrClosed].
func (l *Log) Close() error {
	l.refusals.end()
	l.queue.close()
	close(l.closing)
	<-l.done
	l.flushing.Lock()
	defer l.flushing.Unlock()
	err := l.flush()
	if err != nil {
		err = l.flush() // which records what could not be synced
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.more)
	l.more = make(chan struct{})
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}
