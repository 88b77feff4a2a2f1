// Package feed is a log in memory that any number of readers follow.
//
// Every entry has a sequence number. A reader asks for what came after the
// last number it saw; one that has fallen behind by more than the log holds is
// told so, and starts over. Numbers begin at the time the log was made, in
// microseconds, so that a reader which held on to one from an earlier process
// is told the same instead of silently missing what it did not see.
package feed

import (
	"errors"
	"sync"
	"time"
)

// ErrTooOld: entries after that number are no longer, or were never, here.
var ErrTooOld = errors.New("the sequence number is not in the log any more")

// Entry is one value and its number.
type Entry[T any] struct {
	Sequence uint64
	Value    T
}

// Log keeps the newest entries.
type Log[T any] struct {
	keep int

	mu      sync.Mutex
	entries []Entry[T]
	last    uint64
	more    chan struct{} // closed and replaced by Append
}

// New makes a log that keeps at least the newest keep entries.
func New[T any](keep int) *Log[T] {
	return &Log[T]{keep: keep, last: uint64(time.Now().UnixMicro()), more: make(chan struct{})}
}

// Append adds a value. value gets the number that the entry will have.
func (l *Log[T]) Append(value func(sequence uint64) T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.entries = append(l.entries, Entry[T]{l.last, value(l.last)})
	if len(l.entries) >= 2*l.keep {
		l.entries = append([]Entry[T](nil), l.entries[len(l.entries)-l.keep:]...)
	}
	close(l.more)
	l.more = make(chan struct{})
}

// Last is the number of the newest entry, or the one before the first.
func (l *Log[T]) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Oldest is the number after which all entries are still here.
func (l *Log[T]) Oldest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.oldest()
}

func (l *Log[T]) oldest() uint64 { return l.last - uint64(len(l.entries)) }

// After returns the entries after a number, and a channel that is closed when
// there are more.
func (l *Log[T]) After(sequence uint64) ([]Entry[T], <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sequence < l.oldest() || sequence > l.last {
		return nil, nil, ErrTooOld
	}
	from := len(l.entries) - int(l.last-sequence)
	return append([]Entry[T](nil), l.entries[from:]...), l.more, nil
}
