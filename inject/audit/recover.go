package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// finding is what an opening found.
type finding struct {
	note    string
	damaged bool
}

// recover finds the newest record and makes the log ready to go on after it.
func (l *Log) recover() (finding, error) {
	sealed, err := l.readHead()
	forged := errors.Is(err, errForm) || errors.Is(err, errMAC)
	if err != nil && !forged {
		return finding{}, err
	}
	if l.files, _, err = l.list(); err != nil {
		return finding{}, err
	}
	if sealed == nil && !forged && len(l.files) == 0 {
		return finding{}, l.initial()
	}
	if sealed != nil {
		l.sealed = *sealed
		if err := l.drop(sealed.Oldest); err != nil { // what a rotation had no time to
			return finding{}, err
		}
	}
	w, err := l.walkFrom(sealed)
	if err != nil {
		return finding{}, err
	}
	return l.goOn(w, sealed, forged)
}

// initial seals that there is nothing yet, so that a trail without a head is known
// to have lost it.
func (l *Log) initial() error {
	l.sealed = head{Oldest: 1}
	l.last = l.sealed
	return l.writeHead(l.sealed)
}

// walk is a way along the records, from the head on.
type walk struct {
	last head  // the newest authentic record
	end  int64 // of its line
	// bad tells of bytes behind last that are no record of this trail.
	bad int64
	// broken tells what is wrong before last; empty when nothing is.
	broken string
}

// walkFrom goes from the sealed record to the end; from the first record of all when
// there is no head, or no such record where it says.
func (l *Log) walkFrom(sealed *head) (walk, error) {
	w, err := l.walkBegin(sealed)
	if err != nil {
		return w, err
	}
	err = l.walkAll(&w)
	return w, err
}

// walkBegin is a walk before its first record.
func (l *Log) walkBegin(sealed *head) (walk, error) {
	switch {
	case sealed == nil:
		return walk{broken: "its sealed head is missing"}, nil
	case sealed.Seq == 0:
		return walk{}, nil
	}
	there, err := l.holds(*sealed)
	if err != nil || !there {
		return walk{broken: fmt.Sprintf("record %d is not where it was when it was sealed", sealed.Seq)}, err
	}
	return walk{last: head{Seq: sealed.Seq - 1, File: sealed.File, Offset: sealed.Offset}}, nil
}

// holds says whether the sealed record is where the head has it.
func (l *Log) holds(sealed head) (bool, error) {
	r, done, err := l.open(sealed.File, sealed.Offset, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the audit trail: %w", err)
	}
	defer done()
	for at, err := range eachLine(r) {
		if err != nil {
			return false, fmt.Errorf("reading the audit trail: %w", err)
		}
		var record Record
		mac, err := l.key.open(at.text, &record)
		return err == nil && at.whole && mac == sealed.MAC, nil
	}
	return false, nil
}

// walkAll goes from where last is to the end.
func (l *Log) walkAll(w *walk) error {
	file, offset := w.last.File, w.last.Offset
	for _, first := range l.files {
		if first < file {
			continue
		}
		if first > file {
			offset = 0
		}
		if err := l.walkFile(w, first, offset); err != nil {
			return fmt.Errorf("reading the audit trail: %w", err)
		}
	}
	return nil
}

func (l *Log) walkFile(w *walk, first uint64, offset int64) error {
	r, done, err := l.open(first, offset, -1)
	if err != nil {
		return err
	}
	defer done()
	for at, err := range eachLine(r) {
		if err != nil {
			return err
		}
		var record Record
		mac, err := l.key.open(at.text, &record)
		if err != nil || !at.whole {
			w.bad += at.end - at.start
			continue
		}
		w.step(record)
		if record.Seq >= w.last.Seq {
			w.last.Seq, w.last.MAC, w.last.File, w.last.Offset = record.Seq, mac, first, offset+at.start
			w.end = offset + at.end
		}
	}
	return nil
}

// step notes what is wrong with an authentic record that comes next.
func (w *walk) step(r Record) {
	switch {
	case w.broken != "":
	case w.bad > 0:
		w.broken = fmt.Sprintf("something that is no record stands before record %d", r.Seq)
	case r.Seq != w.last.Seq+1 || w.last.MAC != "" && r.Prev != w.last.MAC:
		w.broken = fmt.Sprintf("record %d follows record %d", r.Seq, w.last.Seq)
	}
	w.bad = 0
}

// goOn makes the log ready to write after what a walk has found.
func (l *Log) goOn(w walk, sealed *head, forged bool) (finding, error) {
	l.last = w.last
	l.last.Oldest = l.oldest(sealed)
	if forged {
		w.broken = "its sealed head is not authentic"
	}
	if sealed != nil && w.last.Seq <= sealed.Seq {
		l.last.Seq, l.last.MAC = sealed.Seq, sealed.MAC
	}
	if w.broken != "" {
		return l.goOnAnew(w.broken), nil
	}
	cut, err := l.cutBehind(w)
	if err != nil || w.last.Seq == 0 {
		return finding{note: cut}, err
	}
	l.file, err = os.OpenFile(l.path(w.last.File), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return finding{}, fmt.Errorf("opening the audit trail: %w", err)
	}
	l.size = w.end
	return finding{note: cut}, nil
}

func (l *Log) oldest(sealed *head) uint64 {
	switch {
	case sealed != nil:
		return sealed.Oldest
	case len(l.files) > 0:
		return l.files[0]
	default:
		return 1
	}
}

// goOnAnew leaves all that there is as evidence.
func (l *Log) goOnAnew(broken string) finding {
	l.fresh = true
	if n := len(l.files); n > 0 {
		// Files stay in order, and no name is taken twice.
		l.last.Seq = max(l.last.Seq, l.files[n-1])
	}
	return finding{damaged: true, note: broken}
}

// cutBehind cuts off what a crash has left behind the newest record, none of which
// the head has. It returns a note of it.
func (l *Log) cutBehind(w walk) (string, error) {
	if w.last.Seq > 0 && w.bad > 0 {
		if err := os.Truncate(l.path(w.last.File), w.end); err != nil {
			return "", fmt.Errorf("cutting off what a crash has left in the audit trail: %w", err)
		}
	}
	// Files behind have no record: they are what a crash left of a rotation.
	for len(l.files) > 0 && (w.last.Seq == 0 || l.files[len(l.files)-1] > w.last.File) {
		if err := os.Remove(l.path(l.files[len(l.files)-1])); err != nil {
			return "", fmt.Errorf("removing what a crash has left of the audit trail: %w", err)
		}
		l.files = l.files[:len(l.files)-1]
	}
	if w.bad == 0 {
		return "", nil
	}
	return fmt.Sprintf("cut off %d bytes behind record %d, which a crash had left there", w.bad, w.last.Seq), nil
}
