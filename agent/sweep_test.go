package agent

import (
	"slices"
	"testing"

	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
)

// Each kind of leak has a count, which is there before the first.
func TestLeakKindsAreCounted(t *testing.T) {
	if !slices.Equal(metrics.LeakKinds, runtime.LeakKinds) {
		t.Errorf("counted are %v, there are %v", metrics.LeakKinds, runtime.LeakKinds)
	}
}
