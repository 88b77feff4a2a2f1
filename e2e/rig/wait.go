package rig

import "time"

// ComesTrue waits for a condition, for as long as limit says, and tells whether it came
// true.
func ComesTrue(limit time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(30 * time.Millisecond)
	}
	return true
}
