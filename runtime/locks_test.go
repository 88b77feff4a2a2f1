package runtime

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestLocksAreWaitedForWhileTheContextLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l locks
		unlock, err := l.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := l.lock(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		other()

		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() {
			_, err := l.lock(ctx, "a")
			waited <- err
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-waited:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("waiting ended with %v", err)
			}
		default:
			t.Fatal("it waits on, though its context has ended")
		}

		held := make(chan func(), 1)
		go func() {
			unlock, err := l.lock(t.Context(), "a")
			if err != nil {
				t.Error(err)
			}
			held <- unlock
		}()
		synctest.Wait()
		if len(held) > 0 {
			t.Fatal("two hold the same name")
		}
		unlock()
		(<-held)()
		if len(l.held) > 0 {
			t.Errorf("locks that nobody uses are kept: %v", l.held)
		}
	})
}
