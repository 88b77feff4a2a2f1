package fifo

import (
	"testing"
	"testing/synctest"
	"time"
)

// What still comes is waited for, and what is being passed on, however long that
// takes; silence is not.
func TestAwait(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(m *Meter, ended chan struct{})
		want bool
		took time.Duration
	}{
		"silence": {func(*Meter, chan struct{}) {}, false, time.Second},
		"an end":  {func(_ *Meter, ended chan struct{}) { close(ended) }, true, 0},
		"more for a while": {func(m *Meter, _ chan struct{}) {
			for range 4 {
				m.Begin()
				m.End()
				<-time.After(900 * time.Millisecond)
			}
		}, false, 4 * time.Second},
		"a slow reader": {func(m *Meter, ended chan struct{}) {
			m.Begin()
			<-time.After(time.Minute)
			close(ended)
		}, true, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m, other Meter
				ended := make(chan struct{})
				go c.do(&m, ended)
				began := time.Now()
				if got := Await(ended, time.Second, &m, &other); got != c.want || time.Since(began) != c.took {
					t.Errorf("ended: %v after %v", got, time.Since(began))
				}
			})
		})
	}
}
