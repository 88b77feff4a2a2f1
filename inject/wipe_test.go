package inject

import (
	"bytes"
	"runtime"
	"testing"
	"time"
)

// The test keeps the bytes, which does not keep the Value.
func TestBytesAreClearedWhenTheLastCopyIsGone(t *testing.T) {
	wiped := make(chan struct{})
	text := []byte("a value that is long enough to be found")
	value := newValue(text, func(content []byte) { clear(content); close(wiped) })
	last := value
	var content []byte
	value.use(func(b []byte) { content = b })

	for range 3 {
		runtime.GC()
	}
	if !bytes.Equal(content, text) || !bytes.Equal(last.Reveal(), text) {
		t.Fatal("the bytes were cleared while there was a copy")
	}

	for range 100 {
		runtime.GC()
		select {
		case <-wiped:
			if !bytes.Equal(content, make([]byte, len(text))) {
				t.Errorf("the bytes became %q", content)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Error("the bytes were not cleared")
}

// A collection in the middle of it must not take the bytes away.
func TestBytesAreThereWhileTheyAreUsed(t *testing.T) {
	text := []byte("a value that is long enough to be found")
	NewValue(text).use(func(content []byte) {
		for range 3 {
			runtime.GC()
			runtime.Gosched()
		}
		if !bytes.Equal(content, text) {
			t.Errorf("the bytes became %q", content)
		}
	})
}

func BenchmarkNewValue(b *testing.B) {
	text := bytes.Repeat([]byte("x"), 64)
	for b.Loop() {
		NewValue(text)
	}
}
