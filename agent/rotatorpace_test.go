package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// Changes of secrets that come one upon the other are planned for together; the first of
// them, and what is due, at once.
func TestRotatorPace(t *testing.T) {
	at := func(name string, next, want time.Duration, happens func(r *rotator)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				r := &rotator{due: make(chan struct{}, 1), heard: make(chan struct{}, 1), planned: began}
				go happens(r)
				due := time.Time{}
				if next > 0 {
					due = began.Add(next)
				}
				r.wait(t.Context(), due)
				if took := time.Since(began); took != want {
					t.Errorf("the next plan is made after %v, not %v", took, want)
				}
			})
		})
	}
	at("nothing happens", time.Second, time.Second, func(*rotator) {})
	at("a change soon after a plan", 0, pace, func(r *rotator) { raise(r.heard) })
	at("a change long after a plan", 0, time.Minute, func(r *rotator) {
		<-time.After(time.Minute)
		raise(r.heard)
	})
	at("many changes", time.Second, pace, func(r *rotator) {
		for range 400 {
			raise(r.heard)
			<-time.After(pace / 500)
		}
	})
	at("a change, and something is due before", pace/2, pace/2, func(r *rotator) { raise(r.heard) })
	at("a change, and a plan is asked for", 0, pace/4, func(r *rotator) {
		raise(r.heard)
		<-time.After(pace / 4)
		r.poke()
	})
}
