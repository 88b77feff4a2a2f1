package agent

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/purserd/purser/runtime/forward"
	"github.com/purserd/purser/runtime/loghelper"
)

// TestMain is the processes of the log helper and the port forwarder, too, which an agent starts.
func TestMain(m *testing.M) {
	loghelper.Main()
	forward.Main()
	// The race detector has every process sleep for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}
