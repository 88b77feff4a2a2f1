package feed

import (
	"errors"
	"testing"
)

func TestFollow(t *testing.T) {
	l := New[int](4)
	start := l.Last()
	add := func(n int) { l.Append(func(uint64) int { return n }) }
	got, more, err := l.After(start)
	if err != nil || len(got) != 0 {
		t.Fatalf("an empty log gave %v, %v", got, err)
	}
	add(1)
	<-more
	if got, _, _ = l.After(start); len(got) != 1 || got[0].Value != 1 || got[0].Sequence != start+1 {
		t.Fatalf("got %v", got)
	}
	for n := 2; n <= 20; n++ {
		add(n)
	}
	if _, _, err = l.After(start); !errors.Is(err, ErrTooOld) {
		t.Errorf("a reader that fell behind got %v", err)
	}
	if _, _, err = l.After(l.Last() + 1); !errors.Is(err, ErrTooOld) {
		t.Errorf("a number from the future got %v", err)
	}
	if got, _, err = l.After(l.Last() - 3); err != nil || len(got) != 3 || got[2].Value != 20 {
		t.Errorf("got %v, %v", got, err)
	}
	if got, _, err = l.After(l.Oldest()); err != nil || len(got) < 4 {
		t.Errorf("the log keeps %d entries: %v", len(got), err)
	}
}
