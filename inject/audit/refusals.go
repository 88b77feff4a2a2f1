package audit

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Refusals of one user in a window are recorded one by one up to singles; the rest
// is counted, and recorded when the window ends. Who calls in vain must not push
// everything else out of the trail.
const (
	window  = 10 * time.Minute
	singles = 10
	// kinds bounds what is counted apart.
	kinds = 128
)

// refusals holds the window. It is taken before the log's mutexes.
type refusals struct {
	log *Log

	mu      sync.Mutex
	ends    *time.Timer // nil without a window
	written map[uint32]int
	counted map[kind]uint64
	closed  bool
}

// kind is what refusals have in common that are counted together. Its zero value is
// for those that there is no room to tell apart.
type kind struct {
	uid        uint32
	call, code string
}

// Refuse records a refused call, or counts it: of many, only the first are written
// one by one. Like [Log.Note] it does not wait for the disk.
func (l *Log) Refuse(r Record) error {
	r.Action, r.Outcome = Refusal, Denied
	if !l.refusals.admit(r) {
		return nil
	}
	_, err := l.Note(r)
	return err
}

// admit says whether a refusal is to be recorded by itself, and counts it otherwise.
func (f *refusals) admit(r Record) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return true
	}
	if f.ends == nil {
		f.written, f.counted = map[uint32]int{}, map[kind]uint64{}
		f.ends = time.AfterFunc(window, f.endWindow)
	}
	k := kind{call: r.Call, code: r.Code}
	if r.Caller != nil {
		k.uid = r.Caller.UID
	}
	if _, known := f.written[k.uid]; (known || len(f.written) < kinds) && f.written[k.uid] < singles {
		f.written[k.uid]++
		return true
	}
	if _, known := f.counted[k]; !known && len(f.counted) >= kinds {
		k = kind{}
	}
	f.counted[k]++
	return false
}

// endWindow records what was counted.
func (f *refusals) endWindow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	counted := f.counted
	f.ends, f.counted = nil, nil
	for _, k := range sorted(counted) {
		if _, err := f.log.Note(k.record(counted[k])); err != nil {
			f.log.options.Warn(err)
		}
	}
}

func sorted(counted map[kind]uint64) []kind {
	all := make([]kind, 0, len(counted))
	for k := range counted {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.uid, b.uid), cmp.Compare(a.call, b.call), cmp.Compare(a.code, b.code))
	})
	return all
}

func (k kind) record(count uint64) Record {
	r := Record{Action: Refusal, Outcome: Denied, Call: k.call, Code: k.code, Count: count,
		Why: fmt.Sprintf("more such calls, within %v", window)}
	if k == (kind{}) {
		r.Why = fmt.Sprintf("more calls of various kinds, within %v", window)
		return r
	}
	r.Caller = &Caller{UID: k.uid}
	return r
}

// end records what was counted so far; later refusals are recorded one by one.
func (f *refusals) end() {
	f.mu.Lock()
	f.closed = true
	if f.ends != nil {
		f.ends.Stop() // one that runs already finds nothing to record
	}
	f.mu.Unlock()
	f.endWindow()
}
