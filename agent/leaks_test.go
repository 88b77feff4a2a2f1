package agent

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/purserd/purser/runtime/loghelper"
)

// TestMain is the log helper's process, too, which an agent starts.
func TestMain(m *testing.M) {
	loghelper.Main()
	// The race detector has every process sleep for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}
