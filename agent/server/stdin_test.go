package server

import (
	"bytes"
	"io"
	"os"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/purserd/purser/runtime/loghelper"
)

// TestMain is the log helper's process, too, which an agent starts.
func TestMain(m *testing.M) {
	loghelper.Main()
	// The race detector has every process sleep for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

// A client that keeps to the room it is told of never waits, and every byte
// arrives.
func TestInboxTellsOfItsRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "pattern")
		sent = bytes.Repeat(sent, rapid.IntRange(0, 40<<10).Draw(t, "times"))
		rooms := make(chan int, 1<<10)
		b := newInbox(func(room uint32) error {
			rooms <- int(room)
			return nil
		})
		go func() {
			defer b.end()
			rest := sent
			for room := 0; len(rest) > 0; {
				if room == 0 {
					room = <-rooms
				}
				n := min(room, len(rest), 32<<10)
				if b.mu.Lock(); len(b.data)+n > inboxSize {
					panic("told of more room than there is")
				}
				b.mu.Unlock()
				_, _ = b.Write(rest[:n])
				rest, room = rest[n:], room-n
			}
		}()
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(sent), err)
		}
	})
}

// One that does not is held up until there is room, and let go when nobody reads
// any more.
func TestInboxIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(func(uint32) error { return nil })
		_, _ = b.Write(make([]byte, inboxSize))
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = b.Write([]byte("more"))
		}()
		synctest.Wait()
		select {
		case <-written:
			t.Error("there was room")
		default:
		}
		b.close()
		<-written
		if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("read %d, %v after the end", n, err)
		}
	})
}
