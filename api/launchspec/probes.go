package launchspec

import (
	"iter"
	"net/url"
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// The probes of a container, as they are named in a spec.
const (
	ProbeStartup = "startup"
	ProbeReady   = "ready"
	ProbeLive    = "live"
)

// ProbeNames are all of them, in the order in which they come.
var ProbeNames = []string{ProbeStartup, ProbeReady, ProbeLive}

// minPeriod is the shortest period and timeout of a probe: what is faster keeps a node
// busy with nothing else.
const minPeriod = 10 * time.Millisecond

// Probes are those that a spec has, by name and in order.
func Probes(s *purserv1.LaunchSpec) iter.Seq2[string, *purserv1.Probe] {
	p := s.GetProbes()
	all := []*purserv1.Probe{p.GetStartup(), p.GetReady(), p.GetLive()}
	return func(yield func(string, *purserv1.Probe) bool) {
		for i, name := range ProbeNames {
			if all[i] != nil && !yield(name, all[i]) {
				return
			}
		}
	}
}

// ProbeInitialDelay is the time from the start of the container to the first try.
func ProbeInitialDelay(p *purserv1.Probe) time.Duration { return durationOr(p.GetInitialDelay(), 0) }

// ProbePeriod is the time from one try of the probe of a name to the next.
func ProbePeriod(name string, p *purserv1.Probe) time.Duration {
	if name == ProbeStartup {
		return durationOr(p.GetPeriod(), DefaultStartupPeriod)
	}
	return durationOr(p.GetPeriod(), DefaultProbePeriod)
}

// ProbeTimeout is how long one try may take.
func ProbeTimeout(p *purserv1.Probe) time.Duration {
	return durationOr(p.GetTimeout(), DefaultProbeTimeout)
}

// ProbeFailures is how many tries in a row of the probe of a name have to fail.
func ProbeFailures(name string, p *purserv1.Probe) int {
	switch {
	case p.Failures != nil:
		return int(p.GetFailures())
	case name == ProbeStartup:
		return DefaultStartupFailures
	}
	return DefaultProbeFailures
}

// ProbeSuccesses is how many tries in a row have to succeed.
func ProbeSuccesses(p *purserv1.Probe) int {
	if p.Successes == nil {
		return DefaultProbeSuccesses
	}
	return int(p.GetSuccesses())
}

// ReadyNotices is how long the ready probe may take to notice that a function is not ready
// any more: its tries have to fail in a row. 0 without one.
func ReadyNotices(s *purserv1.LaunchSpec) time.Duration {
	p := s.GetProbes().GetReady()
	if p == nil {
		return 0
	}
	period, timeout := ProbePeriod(ProbeReady, p), ProbeTimeout(p)
	return period + time.Duration(ProbeFailures(ProbeReady, p)-1)*max(period, timeout) + timeout
}

// ProbePath is what an HTTP probe asks for, a query included.
func ProbePath(h *purserv1.HttpProbe) string { return stringOr(h.GetPath(), DefaultProbePath) }

// ProbeScheme is [SchemeHTTP] or [SchemeHTTPS].
func ProbeScheme(h *purserv1.HttpProbe) string { return stringOr(h.GetScheme(), DefaultProbeScheme) }

// OverNetwork tells whether a probe connects to the container.
func OverNetwork(p *purserv1.Probe) bool {
	return p.GetHttp() != nil || p.GetTcp() != nil || p.GetGrpc() != nil
}

// probes checks what the rules of one probe cannot say, as they do not know which
// of the three it is.
func (c *collector) probes(s *purserv1.LaunchSpec) {
	for name, p := range Probes(s) {
		at := path{"probes", name}
		c.duration(at.join("initial_delay"), p.GetInitialDelay(), 0)
		c.atLeast(at.join("period"), p.GetPeriod(), minPeriod)
		c.atLeast(at.join("timeout"), p.GetTimeout(), minPeriod)
		c.httpProbe(at.join("http"), p.GetHttp())
		c.program(at.join("exec", "command"), p.GetExec().GetCommand())
		if name != ProbeReady && p.GetSuccesses() > 1 {
			c.add(at.join("successes"), "probe.successes", "must be 1, or left out: only a ready probe may want more successes in a row")
		}
	}
	if IsJob(s) && s.GetProbes().GetReady() != nil {
		c.add(path{"probes", ProbeReady}, "probe.job", "must not be given for a job, which nothing is sent to: ready belongs to kind: service; startup and live suit a job")
	}
	c.program(path{"hooks", "pre_stop"}, s.GetHooks().GetPreStop())
}

// httpProbe checks that a request can be made.
func (c *collector) httpProbe(at path, h *purserv1.HttpProbe) {
	if _, err := url.ParseRequestURI(ProbePath(h)); err != nil {
		c.add(at.join("path"), "http.path", "must be a path as in a URL: a %% that stands for itself is written %%25")
	}
	if host := h.GetHost(); host != "" && matches(hostPattern, host) {
		if u, err := url.Parse("//" + host); err != nil || u.Hostname() == "" {
			c.add(at.join("host"), "http.host", "%s", patterns[hostPattern])
		}
	}
}

// program checks that a command, if there is one, begins with a program.
func (c *collector) program(at path, command []string) {
	if len(command) > 0 && command[0] == "" {
		c.add(at.join(0), "argv.program", "must name a program")
	}
}

// atLeast also bounds a duration from below.
func (c *collector) atLeast(at path, value string, least time.Duration) {
	if !c.duration(at, value, time.Nanosecond) {
		return
	}
	if d, ok := durationIfSet(value); ok && d < least {
		c.add(at, "duration.least", "must be at least %v", least)
	}
}
