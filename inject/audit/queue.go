package audit

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"
)

// queueSize is how many notes may wait for the disk: some minutes of a busy node's.
const queueSize = 1024

var errFull = errors.New("writing the audit trail: the disk does not respond, and there is no room for more records to wait for it")

// queue holds the records on their way to the file, in their order, so that who has
// one to write need not wait for the disk. It is taken after nothing and before
// nothing.
type queue struct {
	more    chan struct{} // of capacity 1
	emptied chan struct{} // closed when the last one is written

	mu      sync.Mutex
	waiting []*Pending
	newest  *Pending // that was put in
	closed  bool
}

// Pending is a record that was handed over, and may not be written yet.
type Pending struct {
	record Record
	// lost is how many found the queue full; there is no record then.
	lost uint64
	// awaited tells that somebody wants to know of an error.
	awaited bool

	done chan struct{} // closed when what follows is set
	seq  uint64        // 0 when it could not be written
	err  error
}

func newQueue() queue {
	return queue{more: make(chan struct{}, 1), emptied: make(chan struct{})}
}

// put hands over a record. One that nobody waits for may find no room, which is
// counted in its place.
func (q *queue) put(n *Pending) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return fs.ErrClosed
	}
	if !n.awaited && len(q.waiting) >= queueSize {
		q.lose()
		return errFull
	}
	n.record.Time = time.Now().UTC()
	q.add(n)
	return nil
}

// lose counts a record that there was no room for, together with those before it. The
// caller holds mu.
func (q *queue) lose() {
	if last := q.waiting[len(q.waiting)-1]; last.lost > 0 {
		last.lost++
		return
	}
	q.add(&Pending{lost: 1})
}

func (q *queue) add(n *Pending) {
	n.done = make(chan struct{})
	q.waiting, q.newest = append(q.waiting, n), n
	wake(q.more)
}

// wake sends to a channel of capacity 1, unless it has something already.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// next waits for a record; nil when the queue is closed and there is none left.
func (q *queue) next() *Pending {
	for {
		q.mu.Lock()
		if len(q.waiting) > 0 {
			n := q.waiting[0]
			q.waiting[0], q.waiting = nil, q.waiting[1:]
			q.mu.Unlock()
			return n
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		<-q.more
	}
}

// close takes no more, and waits until all are written.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	wake(q.more)
	<-q.emptied
}

// settle waits until what was put in before is written, or could not be.
func (q *queue) settle(ctx context.Context) error {
	q.mu.Lock()
	newest := q.newest
	q.mu.Unlock()
	if newest == nil {
		return nil
	}
	select {
	case <-newest.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Note hands over a record and does not wait until it is written. It fails when too
// many wait for the disk already; what goes wrong later goes to Options.Warn.
func (l *Log) Note(r Record) (*Pending, error) {
	n := &Pending{record: r.bounded()}
	if err := l.queue.put(n); err != nil {
		return nil, err
	}
	return n, nil
}

// Append writes a record, which is on disk within Options.Interval, and returns its
// number.
func (l *Log) Append(r Record) (uint64, error) {
	n := &Pending{record: r.bounded(), awaited: true}
	if err := l.queue.put(n); err != nil {
		return 0, err
	}
	<-n.done
	return n.seq, n.err
}

// writeQueued writes what is handed over, so that the records are in the file in the
// order in which they came.
func (l *Log) writeQueued() {
	defer close(l.queue.emptied)
	for n := l.queue.next(); n != nil; n = l.queue.next() {
		n.seq, n.err = l.writePending(n)
		close(n.done)
		if n.err != nil && !n.awaited {
			l.options.Warn(n.err)
		}
	}
}
