package logs

import (
	"iter"
)

// Merged is an entry of one of several logs.
type Merged struct {
	// Log is the index of the log that it is from.
	Log int
	Entry
}

// Merge returns the entries of several logs in the order of their times; of two with
// the same time that of the earlier log is first. It holds one entry of each.
func Merge(all ...iter.Seq2[Entry, error]) iter.Seq2[Merged, error] {
	return func(yield func(Merged, error) bool) {
		heads := make([]head, len(all))
		for i, entries := range all {
			next, stop := iter.Pull2(entries)
			defer stop()
			heads[i].next = next
			heads[i].advance()
		}
		for {
			first := earliest(heads)
			if first < 0 {
				return
			}
			h := &heads[first]
			if h.err != nil {
				yield(Merged{}, h.err)
				return
			}
			if !yield(Merged{Log: first, Entry: h.entry}, nil) {
				return
			}
			h.advance()
		}
	}
}

// head is the first entry of a log that has not been yielded.
type head struct {
	next  func() (Entry, error, bool)
	entry Entry
	err   error
	there bool
}

func (h *head) advance() { h.entry, h.err, h.there = h.next() }

// earliest is the index of the head that is next; negative when there is none.
func earliest(heads []head) int {
	first := -1
	for i, h := range heads {
		if h.there && (first < 0 || h.entry.Time.Before(heads[first].entry.Time)) {
			first = i
		}
	}
	return first
}
