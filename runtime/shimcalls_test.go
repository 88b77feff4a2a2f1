package runtime

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// call takes a turn for some time.
func (t *turns) call(ctx context.Context, anchor string, lasting time.Duration) error {
	done, err := t.take(ctx, anchor)
	if err != nil {
		return err
	}
	defer done()
	time.Sleep(lasting)
	return nil
}

func TestCallsOfAShimAreFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls turns
		const many, lasting = 10 * shimCalls, time.Second
		began := time.Now()
		var all sync.WaitGroup
		for range many {
			all.Go(func() { _ = calls.call(t.Context(), "a", lasting) })
			go calls.call(t.Context(), "", lasting)
		}
		time.Sleep(lasting / 2)
		if err := calls.call(t.Context(), "b", 0); err != nil || time.Since(began) != lasting/2 {
			t.Errorf("a call to another shim has waited: %v, %v", time.Since(began), err)
		}
		all.Wait()
		if took := time.Since(began); took != many/shimCalls*lasting {
			t.Errorf("%d calls, %d at a time, took %v", many, shimCalls, took)
		}
		synctest.Wait()
		if len(calls.shims) != 0 {
			t.Errorf("kept: %v", calls.shims)
		}
	})
}

func TestAShimThatHangsIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls turns
		for range shimCalls {
			go calls.call(t.Context(), "a", time.Hour)
		}
		synctest.Wait()
		began := time.Now()
		if err := calls.call(t.Context(), "a", 0); err != nil || time.Since(began) != signalTime {
			t.Errorf("waited %v, %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := calls.call(ctx, "a", 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(calls.shims) != 0 {
			t.Errorf("kept: %v", calls.shims)
		}
	})
}

// Who waits long keeps its place before those who come later.
func TestCallsOfAShimAreInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls turns
		began := time.Now()
		var all sync.WaitGroup
		for i := range 8 * shimCalls {
			all.Go(func() {
				done, err := calls.take(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				if waited := time.Since(began); waited != time.Duration(i/shimCalls)*time.Second {
					t.Errorf("call %d has its turn after %v", i, waited)
				}
				<-time.After(time.Second)
				done()
			})
			synctest.Wait()
		}
		all.Wait()
		synctest.Wait()
	})
}
