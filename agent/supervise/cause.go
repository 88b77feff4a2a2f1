package supervise

// What ended a container, in a word, for programs and metrics.
const (
	Exited      = "exited"       // by itself, or by a signal of somebody else's
	OOMKilled   = "oom_killed"   // by the kernel, for want of memory
	ProbeFailed = "probe_failed" // its startup or live probe
	TimedOut    = "timed_out"    // a job's timeout
	Lost        = "lost"         // its shim died or hung, or nobody watched
	Rebooted    = "rebooted"     // the node
	Refused     = "refused"      // it could not be executed at all
	Unhealthy   = "unhealthy"    // a try of other versions that was not healthy in time
)

// Causes are all of them.
var Causes = []string{Exited, OOMKilled, ProbeFailed, TimedOut, Lost, Rebooted, Refused, Unhealthy}

// Ending is why an instance is ended that is wanted.
type Ending struct {
	Cause  string // ProbeFailed, TimedOut or Unhealthy
	Reason string // in words
}
