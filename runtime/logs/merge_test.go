package logs

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func entries(all []Entry, end error) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
		if end != nil {
			yield(Entry{}, end)
		}
	}
}

// Merged, several logs are one sorted by time, in which each is as it was.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []iter.Seq2[Entry, error]
		var want []Merged
		for i := range rapid.IntRange(0, 4).Draw(t, "logs") {
			seconds := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 6).Draw(t, "times")
			slices.Sort(seconds)
			var log []Entry
			for n, second := range seconds {
				e := Entry{Time: time.Unix(int64(second), 0), Data: []byte{byte(i), byte(n)}}
				log, want = append(log, e), append(want, Merged{Log: i, Entry: e})
			}
			all = append(all, entries(log, nil))
		}
		slices.SortStableFunc(want, func(x, y Merged) int {
			return cmp.Or(x.Time.Compare(y.Time), cmp.Compare(x.Log, y.Log))
		})
		var got []Merged
		for e, err := range Merge(all...) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		if !slices.EqualFunc(got, want, func(x, y Merged) bool { return x.Log == y.Log && slices.Equal(x.Data, y.Data) }) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestMergeEndsWithAnError(t *testing.T) {
	bad := errors.New("bad disk")
	n := 0
	var last error
	for _, err := range Merge(entries([]Entry{{Time: time.Unix(1, 0)}}, bad), entries([]Entry{{Time: time.Unix(2, 0)}}, nil)) {
		n++
		last = err
	}
	if n != 2 || !errors.Is(last, bad) {
		t.Errorf("%d entries, the last with %v", n, last)
	}
	for range Merge(entries(make([]Entry, 3), nil)) {
		break // the logs are let go
	}
}
