package loghelper

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/runtime/companion"
	"github.com/purserd/purser/runtime/logs"
)

// journal is the memory of one instance that outlives the helper: a file on the
// private mount, mapped, so that what is written to it is there whenever the process
// is killed. It makes taking bytes out of a FIFO and storing them one step:
//
//	idle ── read ──▶ reading ──▶ storing ── commit ──▶ idle
//
// In reading, n bytes are about to be moved by one system call from the FIFO, which
// has them, to the area. Whether they have been is seen from the area: it began with
// random bytes before. In storing, they are about to be appended to the log after a
// position. The next helper cuts the log there and stores them again, with the same
// time: who follows the log meanwhile does not notice.
//
// What has been dropped of each stream and is not told of in the log yet is counted in
// a word of its own.
//
// Of each stream it also keeps the end of what was read that the redaction holds
// back: it may be the beginning of a value. Two slots take turns, so that one word
// tells which bytes are valid and what is under way, and changes in one store.
type journal struct {
	mem   []byte
	state *uint64
	noise *rand.ChaCha8
}

const (
	areaSize  = 16 << 10
	slotSize  = 4 << 10
	wordSize  = 8
	noiseSize = 16

	magicAt   = 0
	stateAt   = magicAt + wordSize
	segmentAt = stateAt + wordSize
	offsetAt  = segmentAt + wordSize
	timeAt    = offsetAt + wordSize
	gapsAt    = timeAt + wordSize
	noiseAt   = gapsAt + streams*wordSize
	untoldAt  = noiseAt + noiseSize
	slotsAt   = 4 << 10
	areaAt    = slotsAt + 2*streams*slotSize
	fileSize  = areaAt + areaSize

	// magic names the layout. One of another layout is begun anew.
	magic = 0x7075727365720002
)

// streams is how many an instance has at most.
const streams = 2

// phase is what is under way.
type phase uint8

const (
	idle phase = iota
	reading
	storing
)

// state is the one word that says what in a journal is valid.
type state struct {
	phase  phase
	stream int // that something is under way for
	n      int // bytes in the area
	held   [streams]held
}

// held is what is held back of a stream.
type held struct {
	slot int
	n    int
	// shown: a reader has been told of it already, as being part of a value.
	shown bool
}

// pack puts a state into a word: 2 bits of phase, 1 of stream, 15 of n, and for each
// stream 1 of slot, 1 of shown, 13 of n.
func (s state) pack() uint64 {
	word := uint64(s.phase) | uint64(s.stream)<<2 | uint64(s.n)<<3
	for i, h := range s.held {
		part := uint64(h.slot) | uint64(h.n)<<2
		if h.shown {
			part |= 1 << 1
		}
		word |= part << (18 + 15*i)
	}
	return word
}

func unpack(word uint64) state {
	s := state{phase: phase(word & 3), stream: int(word >> 2 & 1), n: int(word >> 3 & (1<<15 - 1))}
	for i := range s.held {
		part := word >> (18 + 15*i)
		s.held[i] = held{slot: int(part & 1), shown: part>>1&1 == 1, n: int(part >> 2 & (1<<13 - 1))}
	}
	return s
}

// openJournal maps the journal in a file, making it if need be. Of a stream that is
// taken up in its middle, without a journal that tells where, nothing is known: there
// is a gap.
func openJournal(path string, middle bool) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mem, err := companion.Map(f, fileSize)
	if err != nil {
		return nil, err
	}
	j := &journal{mem: mem, state: (*uint64)(unsafe.Pointer(&mem[stateAt])), noise: newNoise()}
	if is := j.word(magicAt); is != magic {
		atomic.StoreUint64(j.state, state{}.pack())
		for i := range streams {
			j.setGap(i, middle || is != 0)
		}
		j.setWord(magicAt, magic)
	}
	return j, nil
}

func newNoise() *rand.ChaCha8 {
	var seed [32]byte
	for i := range 4 {
		binary.NativeEndian.PutUint64(seed[8*i:], rand.Uint64())
	}
	return rand.NewChaCha8(seed)
}

func (j *journal) close() error { return unix.Munmap(j.mem) }

func (j *journal) word(at int) uint64          { return binary.NativeEndian.Uint64(j.mem[at:]) }
func (j *journal) setWord(at int, word uint64) { binary.NativeEndian.PutUint64(j.mem[at:], word) }

func (j *journal) load() state    { return unpack(atomic.LoadUint64(j.state)) }
func (j *journal) save(s state)   { atomic.StoreUint64(j.state, s.pack()) }
func (j *journal) area() []byte   { return j.mem[areaAt : areaAt+areaSize] }
func (j *journal) noised() []byte { return j.mem[noiseAt : noiseAt+noiseSize] }

// gap says whether bytes of a stream have been dropped of which the journal does not
// know: what follows may be the rest of a value that began there.
func (j *journal) gap(stream int) bool { return atomic.LoadUint64(j.gapWord(stream)) != 0 }

// setGap is called without the turn.
func (j *journal) setGap(stream int, is bool) {
	word := uint64(0)
	if is {
		word = 1
	}
	atomic.StoreUint64(j.gapWord(stream), word)
}

func (j *journal) gapWord(stream int) *uint64 {
	return (*uint64)(unsafe.Pointer(&j.mem[gapsAt+stream*wordSize]))
}

// untold is how many bytes of a stream have been dropped without the log saying so.
func (j *journal) untold(stream int) int { return int(atomic.LoadUint64(j.untoldWord(stream))) }

// drop adds to what the log is to tell of, and told takes from it. They are called
// without the turn.
func (j *journal) drop(stream, n int) { atomic.AddUint64(j.untoldWord(stream), uint64(n)) }
func (j *journal) told(stream, n int) { atomic.AddUint64(j.untoldWord(stream), -uint64(n)) }

func (j *journal) untoldWord(stream int) *uint64 {
	return (*uint64)(unsafe.Pointer(&j.mem[untoldAt+stream*wordSize]))
}

func (j *journal) slot(stream, slot int) []byte {
	at := slotsAt + (2*stream+slot)*slotSize
	return j.mem[at : at+slotSize]
}

// read moves what there is in a FIFO of a stream to the area, by one call of take,
// which must take what it is given room for. Without data it stays idle.
func (j *journal) read(stream, available int, take func([]byte) (int, error)) ([]byte, error) {
	// The one byte is for the end of the FIFO, or what has just come.
	n := min(max(available, 1), areaSize)
	s := j.load()
	_, _ = j.noise.Read(j.noised())
	copy(j.area(), j.noised())
	j.save(state{phase: reading, stream: stream, n: n, held: s.held})
	failpoint.Here("output.take")
	n, err := take(j.area()[:n])
	failpoint.Here("output.taken")
	if n <= 0 || err != nil {
		j.save(state{held: s.held})
		return nil, err
	}
	// Until storing begins, a kill leaves what was read to be found by its noise.
	j.save(state{phase: reading, stream: stream, n: n, held: s.held})
	return j.area()[:n], nil
}

// store notes that the area, n bytes of it, is about to be appended to the log.
func (j *journal) store(stream, n int, at logs.Position, when time.Time) {
	j.setWord(timeAt, uint64(when.UnixNano()))
	j.setWord(segmentAt, uint64(at.Segment))
	j.setWord(offsetAt, uint64(at.Offset))
	j.save(state{phase: storing, stream: stream, n: n, held: j.load().held})
}

// stage keeps what is held back of a stream now, for when commit is called. What has
// no room is not kept.
func (j *journal) stage(stream int, pending []byte, shown bool) held {
	next := held{slot: 1 - j.load().held[stream].slot, shown: shown}
	if len(pending) <= slotSize {
		next.n = copy(j.slot(stream, next.slot), pending)
	}
	return next
}

// commit says that the area has been stored.
func (j *journal) commit(stream int, h held) {
	s := state{held: j.load().held}
	s.held[stream] = h
	j.save(s)
	failpoint.Here("output.committed")
}

// pending is what is held back of a stream.
func (j *journal) pending(stream int) (data []byte, shown bool) {
	h := j.load().held[stream]
	return j.slot(stream, h.slot)[:min(h.n, slotSize)], h.shown
}

// rewind is what an earlier helper may have stored in part: where it began, and the time
// that its records have.
type rewind struct {
	to   logs.Position
	when time.Time
}

// unfinished is what an earlier helper was about to store: data of a stream. Some of it
// may be in the log already when there is something to rewind.
func (j *journal) unfinished() (stream int, data []byte, again *rewind) {
	s := j.load()
	n := min(s.n, areaSize)
	switch s.phase {
	case reading:
		seen := min(n, noiseSize)
		if bytes.Equal(j.area()[:seen], j.noised()[:seen]) {
			return s.stream, nil, nil
		}
		return s.stream, j.area()[:n], nil
	case storing:
		return s.stream, j.area()[:n], &rewind{
			to:   logs.Position{Segment: int(j.word(segmentAt)), Offset: int64(j.word(offsetAt))},
			when: time.Unix(0, int64(j.word(timeAt))),
		}
	default:
		return 0, nil, nil
	}
}
