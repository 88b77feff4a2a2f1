package redact

const (
	// partial stands for what may be the beginning of a value.
	partial = "[partial]"
	// portion is how much is put to what a Stream holds at a time.
	portion = 4 << 10
)

// Stream redacts one stream of output. It is not safe for concurrent use.
type Stream struct {
	mark
	// Functions, as in Matcher.
	table func() *table
	held  func() *held

	// Positions are in the text at hand, which begins with what is held. They may be
	// negative.
	out      int  // up to where there is output, or is not to be any
	run      run  // the last one
	previous run  // the one before
	hides    bool // what is in no run is not shown
	wrote    kind // the last output

	redactions uint64
}

// kind is one of output.
type kind int

const (
	shown kind = iota // input as it is
	labelled
	hidden // [partial]
)

// held is the end of the input that is the beginning of a needle, as much of it as
// can be.
type held struct{ raw []byte }

// run is a row of occurrences that overlap.
type run struct {
	open       bool // more may overlap
	said       bool // a Flush wrote its label
	start, end int
	last       int // start of the occurrence that reaches to the end
	label      string
	longest    int  // length of the needle that gave the label
	piece      bool // it is a piece
}

// Append appends to dst the output of src, as far as it is certain.
func (s *Stream) Append(dst, src []byte) []byte {
	for h := s.held(); len(h.raw) > 0; {
		n := min(len(src), portion)
		h.raw = append(h.raw, src[:n]...)
		dst, src = s.advance(dst, h.raw), src[n:]
		if len(src) == 0 {
			return dst
		}
	}
	return s.advance(dst, src)
}

// Flush appends what is held to dst, for someone who waits: as it is when it is
// shorter than 6 bytes, else as [partial]. The stream still knows it: if the rest of a
// needle follows, that does not show, and its label takes its place.
func (s *Stream) Flush(dst []byte) []byte {
	dst = s.Append(dst, nil) // after a Swap less may be held
	raw := s.held().raw
	run, previous := s.run, s.previous
	s.hides = len(raw) >= shortest
	dst, _ = s.find(dst, raw, false)
	dst = s.show(s.end(dst), raw, len(raw))
	s.hides = false
	// The same occurrences will be found again, and be known for said by s.out.
	run.said = true
	s.run, s.previous = run, previous
	return dst
}

// Close appends what is held to dst as Flush does, and forgets it: the stream is at
// its beginning again.
func (s *Stream) Close(dst []byte) []byte {
	dst = s.Flush(dst)
	clear(s.held().raw)
	*s = Stream{table: s.table, redactions: s.redactions}
	s.forget()
	return dst
}

// forget makes it hold nothing.
func (s *Stream) forget() {
	h := &held{}
	s.held = func() *held { return h }
}

// Swap goes on with the values of another Matcher. What is held stays so until the
// next call; then it counts what it is to the new values.
func (s *Stream) Swap(m *Matcher) { s.table = m.table }

// Held returns how many of the last bytes of input have no final output. A new Stream
// that is given them, and then what follows, hides what this one would have hidden. It
// may write a label or [partial] again, and up to 5 bytes that a Flush had shown.
func (s *Stream) Held() int {
	held := len(s.held().raw)
	if s.run.open {
		return max(held, held-s.run.last)
	}
	return held
}

// Redactions returns how many labels were written.
func (s *Stream) Redactions() uint64 { return s.redactions }

// advance appends what is certain of text and holds the rest.
func (s *Stream) advance(dst, text []byte) []byte {
	dst, hold := s.find(dst, text, true)
	if s.run.end <= hold {
		dst = s.end(dst)
		dst = s.show(dst, text, hold)
	}
	s.hold(text, hold)
	return dst
}

// find appends the output of text up to its last run, which it leaves open, and
// returns where the beginning of a needle begins that may go on after the text. When
// that holds, it looks no further than there.
func (s *Stream) find(dst, text []byte, holds bool) (_ []byte, hold int) {
	t, at := s.table(), 0
	for {
		next, in := t.next(text, at)
		if in.hi == 0 {
			return dst, t.ending(text, at)
		}
		found, more := t.match(text[next:], in)
		if more && holds {
			return dst, next
		}
		if found >= 0 {
			dst = s.cover(dst, text, next, t, found)
		}
		at = next + 1
	}
}

// cover adds an occurrence to the last run, or begins a new one with it.
func (s *Stream) cover(dst, text []byte, at int, t *table, needle int) []byte {
	if at >= s.run.end {
		dst = s.end(dst)
	}
	if !s.run.open {
		dst = s.show(dst, text, at)
		s.run = run{open: true, start: at}
	}
	s.run.add(t, at, needle)
	if at < s.out && at+t.shortest(needle) <= s.out {
		s.run.said = true // by the Flush that wrote up to there
	}
	return dst
}

func (r *run) add(t *table, at, needle int) {
	found := &t.spots[needle]
	length, label := int(found.length), t.labels[found.label]
	if end := at + length; end > r.end {
		r.end, r.last = end, at
	}
	switch {
	case length > r.longest, length == r.longest && label < r.label:
		r.longest, r.label, r.piece = length, label, found.piece
	case length == r.longest && label == r.label:
		r.piece = r.piece || found.piece
	}
}

// end ends the last run, and writes its label where there is no output for its end
// yet.
func (s *Stream) end(dst []byte) []byte {
	if !s.run.open {
		return dst
	}
	r := &s.run
	r.open = false
	// The last label stands for it too, if nothing else was written since.
	same := (r.said || r.continues(&s.previous)) && s.wrote == labelled
	if r.end > s.out && !same {
		dst = append(dst, r.label...)
		s.redactions++
		s.wrote = labelled
	}
	s.out = max(s.out, r.end)
	s.previous = *r
	return dst
}

// continues says whether both are pieces of something longer, one after the other.
func (r *run) continues(previous *run) bool {
	return r.start == previous.end && r.piece && previous.piece && r.label == previous.label
}

// show appends the text up to a place.
func (s *Stream) show(dst, text []byte, to int) []byte {
	if to <= s.out {
		return dst
	}
	if s.hides {
		dst = s.hide(dst, text[s.out:to])
	} else {
		dst = append(dst, text[s.out:to]...)
		s.wrote = shown
	}
	s.out = to
	return dst
}

// hide appends [partial] for text. Its line ends stay: they tell nothing, and without
// them the next message would be in the same line.
func (s *Stream) hide(dst, text []byte) []byte {
	for _, b := range text {
		switch {
		case b == '\n' || b == '\r':
			dst = append(dst, b)
			s.wrote = shown
		case s.wrote != hidden:
			dst = append(dst, partial...)
			s.wrote = hidden
		}
	}
	return dst
}

// hold keeps the text from a place on, from which positions count from now on.
func (s *Stream) hold(text []byte, from int) {
	h := s.held()
	before := len(h.raw)
	h.raw = append(h.raw[:0], text[from:]...)
	if now := len(h.raw); now < before {
		clear(h.raw[now:before])
	}
	s.out = max(s.out-from, 0)
	s.run.move(from)
	s.previous.move(from)
}

func (r *run) move(by int) {
	r.start -= by
	r.end -= by
	r.last -= by
}
