package rig

import "time"

// ComesTrue waits for a condition, for as long as limit says, and tells whether it came
// true. It rests for three times as long as looking takes, as many wait side by side: what
// they wait for needs the machine more than they do.
func ComesTrue(limit time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(limit)
	for {
		began := time.Now()
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(max(20*time.Millisecond, min(3*time.Since(began), time.Second)))
	}
}
