package launchspec

import (
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Strategy is how an instance is replaced: [StrategyRolling] unless two instances would
// get into each other's way, or [StrategyRestart].
func Strategy(s *purserv1.LaunchSpec) string {
	if IsJob(s) || exclusive(s) != "" || s.GetRotation().GetStrategy() == StrategyRestart {
		return StrategyRestart
	}
	return StrategyRolling
}

// Manual tells whether a change of secrets waits for a restart that is asked for.
func Manual(s *purserv1.LaunchSpec) bool {
	return s.GetRotation().GetStrategy() == StrategyManual
}

// exclusive names what a spec asks for that two instances cannot both have.
func exclusive(s *purserv1.LaunchSpec) string {
	if NetworkMode(s) == NetworkHost {
		return "network.mode host"
	}
	if len(s.GetResources().GetDevices()) > 0 {
		return "a device (resources.devices)"
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

// Splay is the time of which a random part passes before a workload follows the first
// of its app.
func Splay(s *purserv1.LaunchSpec) time.Duration {
	return durationOr(s.GetRotation().GetSplay(), 0)
}

// RotationSignal is the name or number of the signal that tells of new files.
func RotationSignal(s *purserv1.LaunchSpec) string {
	return stringOr(s.GetRotation().GetSignal(), DefaultRotationSignal)
}

// OnChange is what a change of the keys that a workload uses of a secret does to it:
// [OnChangeRestart], [OnChangeSignal], [OnChangeRefresh] or [OnChangeIgnore].
func OnChange(ref *purserv1.SecretRef) string {
	if ref.GetOnChange() == "" && !SecretEnv(ref) {
		return OnChangeRefresh
	}
	return stringOr(ref.GetOnChange(), OnChangeRestart)
}

// rotation checks that what is asked for can be done.
func (c *collector) rotation(s *purserv1.LaunchSpec) {
	c.healthTimes(s)
	c.duration(path{"rotation", "splay"}, s.GetRotation().GetSplay(), 0)
	c.signal(path{"rotation", "signal"}, "rotation.signal", RotationSignal(s))
	c.window(s.GetRotation().GetWindow())
	c.onChange(s.GetSecrets())
	if what := exclusive(s); what != "" && s.GetRotation().GetStrategy() == StrategyRolling {
		c.add(path{"rotation", "strategy"}, "rotation.exclusive", "must be restart, or left out: two instances would run side by side for a while, and %s is for one", what)
	}
}

// healthTimes checks that an instance has the time to become healthy.
func (c *collector) healthTimes(s *purserv1.LaunchSpec) {
	r := s.GetRotation()
	minOK := c.duration(path{"rotation", "min_ready"}, r.GetMinReady(), 0)
	timeoutOK := c.duration(path{"rotation", "health_timeout"}, r.GetHealthTimeout(), time.Nanosecond)
	if !minOK || !timeoutOK || HealthTimeout(s) > MinReady(s) {
		return
	}
	bound := "min_ready"
	if r.MinReady == nil {
		bound += ", which is " + MinReady(s).String() + " by default"
	}
	c.add(path{"rotation", "health_timeout"}, "rotation.health", "must be longer than %s", bound)
}

// onChange checks that what a running process has can be changed in the way asked for.
func (c *collector) onChange(refs []*purserv1.SecretRef) {
	for i, ref := range refs {
		if how := OnChange(ref); SecretEnv(ref) && (how == OnChangeSignal || how == OnChangeRefresh) {
			c.add(path{"secrets", i, "on_change"}, "secret.on_change",
				"must be restart or ignore: the variables of a process that runs cannot be changed; files can, with file and env: false")
		}
	}
}
