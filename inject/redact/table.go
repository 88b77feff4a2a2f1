package redact

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sort"
)

const (
	// block is the number of bytes of which shifts tells.
	block = 3
	// widest is the largest window: its bytes fit into a word.
	widest = 8
	// shiftBits makes shifts fit into the second-level cache.
	shiftBits = 16
)

// table finds needles in two steps, after Wu and Manber. The window of a needle is
// its beginning, as long as the shortest needle. For each block in the text, shifts
// tells how much further on the next window could end that has the block in it:
// mostly, one past all of it. Where the answer is 0, slots has the needles that begin
// with what stands there.
type table struct {
	texts  []byte // of all needles, one after the other
	spots  []spot // the needles, sorted by text
	labels []string
	window int
	shifts [1 << shiftBits]uint8
	slots  []slot               // a hash table with open addressing; its length is a power of 2
	heads  [1 << 16 / 64]uint64 // the first 2 bytes of needles, as a set
}

// spot says where the text of a needle is.
type spot struct {
	at     int
	label  int32
	parent int32 // the longest other needle that this one begins with, or -1
	length int16
	piece  bool
}

// slot has the needles from lo to below hi, which begin with the window key; none
// when it is free.
type slot struct {
	key    uint64
	lo, hi int32
}

// newTable takes sorted needles, and overwrites their texts.
func newTable(needles []needle) *table {
	size, window := 0, widest
	for _, n := range needles {
		size += len(n.text)
		window = min(window, len(n.text))
	}
	t := &table{
		window: window,
		texts:  make([]byte, 0, size), // never grown, which would leave a copy behind
		spots:  make([]spot, 0, len(needles)),
	}
	labels := map[string]int32{}
	for _, n := range needles {
		t.add(n, labels)
		clear(n.text)
	}
	t.index()
	return t
}

func (t *table) add(n needle, labels map[string]int32) {
	label, ok := labels[n.label]
	if !ok {
		label = int32(len(t.labels))
		labels[n.label] = label
		t.labels = append(t.labels, n.label)
	}
	parent := int32(len(t.spots) - 1)
	for parent >= 0 && !bytes.HasPrefix(n.text, t.text(int(parent))) {
		parent = t.spots[parent].parent
	}
	t.spots = append(t.spots, spot{len(t.texts), label, parent, int16(len(n.text)), n.piece})
	t.texts = append(t.texts, n.text...)
	head := binary.LittleEndian.Uint16(n.text)
	t.heads[head/64] |= 1 << (head % 64)
}

// text returns the text of a needle.
func (t *table) text(i int) []byte {
	s := &t.spots[i]
	return t.texts[s.at : s.at+int(s.length)]
}

// length returns the length of a needle.
func (t *table) length(i int) int { return int(t.spots[i].length) }

// shortest returns the length of the shortest needle that a needle begins with.
func (t *table) shortest(i int) int {
	for t.spots[i].parent >= 0 {
		i = int(t.spots[i].parent)
	}
	return t.length(i)
}

// index fills shifts and slots.
func (t *table) index() {
	for i := range t.shifts {
		t.shifts[i] = uint8(t.window - block + 1)
	}
	var all []slot
	for lo := 0; lo < len(t.spots); lo = int(all[len(all)-1].hi) {
		all = append(all, t.sameWindow(lo))
		t.shift(t.text(lo)[:t.window])
	}
	t.slots = make([]slot, 1<<bits.Len(uint(2*len(all))))
	for _, s := range all {
		*t.slot(s.key) = s
	}
}

// sameWindow returns the needles that begin like one, which follow it.
func (t *table) sameWindow(lo int) slot {
	hi, window := lo, t.text(lo)[:t.window]
	for hi < len(t.spots) && bytes.HasPrefix(t.text(hi), window) {
		hi++
	}
	return slot{t.key(window), int32(lo), int32(hi)}
}

// shift notes for each block of a window how far it is from the end.
func (t *table) shift(window []byte) {
	for p := range t.window - block + 1 {
		s := &t.shifts[mix(uint32(window[p])|uint32(window[p+1])<<8|uint32(window[p+2])<<16)]
		*s = min(*s, uint8(t.window-block-p))
	}
}

// mix makes an index of shifts of a block.
func mix(block uint32) uint32 { return block * 0x9e3779b1 >> (32 - shiftBits) }

// key returns the window that a text of at least its length begins with.
func (t *table) key(text []byte) uint64 {
	if len(text) < widest {
		var word [widest]byte
		copy(word[:], text)
		text = word[:]
	}
	return binary.LittleEndian.Uint64(text) & (1<<(8*t.window) - 1)
}

// slot returns the slot of a key, or the free one in its place.
func (t *table) slot(key uint64) *slot {
	mask := uint64(len(t.slots) - 1)
	for i := key * 0x9e3779b97f4a7c15 >> 20; ; i++ {
		if s := &t.slots[i&mask]; s.hi == 0 || s.key == key {
			return s
		}
	}
}

// next returns the first place at or after from where the window of a needle is, and
// the needles that have it. Without one, they are none.
func (t *table) next(text []byte, from int) (at int, in slot) {
	lead := t.window - block
	for end := from + lead; end+block <= len(text); {
		shift := t.shifts[mix(binary.LittleEndian.Uint32(text[end-1:])>>8)]
		if shift > 0 {
			end += int(shift)
			continue
		}
		if s := t.slot(t.key(text[end-lead:])); s.hi > 0 {
			return end - lead, *s
		}
		end++
	}
	return len(text), slot{}
}

// match returns the longest needle in a slot that a text begins with, or -1; more says
// whether the text is the beginning of a longer one.
func (t *table) match(text []byte, in slot) (found int, more bool) {
	lo, hi := int(in.lo), int(in.hi)
	after := lo + sort.Search(hi-lo, func(i int) bool { return bytes.Compare(t.text(lo+i), text) > 0 })
	more = after < hi && bytes.HasPrefix(t.text(after), text)
	if after == lo {
		return -1, more
	}
	// All needles that the text begins with are the beginning of this one too.
	found = after - 1
	if bytes.HasPrefix(text, t.text(found)) {
		return found, more
	}
	same := commonPrefix(t.text(found), text)
	for found >= 0 && t.length(found) > same {
		found = int(t.spots[found].parent)
	}
	return found, more
}

// commonPrefix returns how many bytes two texts begin with alike.
func commonPrefix(a, b []byte) int {
	n, end := 0, min(len(a), len(b))
	for ; n+8 <= end; n += 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
	}
	for n < end && a[n] == b[n] {
		n++
	}
	return n
}

// ending returns the first place at or after from where the beginning of a needle
// begins that is cut off by the end of the text and shorter than a window.
func (t *table) ending(text []byte, from int) int {
	for i := max(from, len(text)-t.window+1); i < len(text); i++ {
		if t.begins(text[i:]) {
			return i
		}
	}
	return len(text)
}

// begins says whether a text is the beginning of a needle.
func (t *table) begins(text []byte) bool {
	if len(text) >= 2 {
		head := binary.LittleEndian.Uint16(text)
		if t.heads[head/64]&(1<<(head%64)) == 0 {
			return false
		}
	}
	i := sort.Search(len(t.spots), func(i int) bool { return bytes.Compare(t.text(i), text) >= 0 })
	return i < len(t.spots) && bytes.HasPrefix(t.text(i), text)
}
