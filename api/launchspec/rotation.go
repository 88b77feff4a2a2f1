package launchspec

import (
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Strategy is how an instance is replaced: [StrategyRolling] unless two instances would
// get into each other's way.
func Strategy(s *purserv1.LaunchSpec) string {
	if IsJob(s) || exclusive(s) != "" {
		return StrategyRestart
	}
	return stringOr(s.GetRotation().GetStrategy(), StrategyRolling)
}

// exclusive names what a spec asks for that two instances cannot both have.
func exclusive(s *purserv1.LaunchSpec) string {
	if NetworkMode(s) == NetworkHost {
		return "network.mode host"
	}
	for _, m := range s.GetMounts() {
		if MountType(m) != MountTmpfs && !m.GetReadOnly() {
			return "a mount that can be written to"
		}
	}
	return ""
}

// MinReady is for how long a new instance has to have been ready to count as healthy.
func MinReady(s *purserv1.LaunchSpec) time.Duration {
	if s.GetProbes().GetReady() != nil {
		return durationOr(s.GetRotation().GetMinReady(), 0)
	}
	return durationOr(s.GetRotation().GetMinReady(), DefaultMinReady)
}

// HealthTimeout is how long a new instance has, once it has started up, to have been
// ready for [MinReady].
func HealthTimeout(s *purserv1.LaunchSpec) time.Duration {
	return durationOr(s.GetRotation().GetHealthTimeout(), MinReady(s)+DefaultToReady)
}

// rotation checks that what is asked for can be done.
func (c *collector) rotation(s *purserv1.LaunchSpec) {
	c.duration(path{"rotation", "min_ready"}, s.GetRotation().GetMinReady(), 0)
	if what := exclusive(s); what != "" && s.GetRotation().GetStrategy() == StrategyRolling {
		c.add(path{"rotation", "strategy"}, "rotation.exclusive", "must be restart, or left out: two instances would run side by side for a while, and %s is for one", what)
	}
}
