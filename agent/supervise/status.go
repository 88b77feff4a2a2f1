package supervise

import (
	"time"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// State is what a workload is doing, in one word.
type State string

// The states of a workload; the package comment has the diagram.
const (
	Pending    State = "pending"
	Pulling    State = "pulling"
	Creating   State = "creating"
	Starting   State = "starting"
	Running    State = "running"
	Ready      State = "ready"
	Stopping   State = "stopping"
	BackingOff State = "backing_off"
	Stopped    State = "stopped"
	Completed  State = "completed"
	Failed     State = "failed"
)

// States are all states, for what has to enumerate them.
var States = []State{Pending, Pulling, Creating, Starting, Running, Ready, Stopping, BackingOff, Stopped, Completed, Failed}

// Ended says whether a workload in this state stays there until it is told
// otherwise.
func (s State) Ended() bool {
	return s == Stopped || s == Completed || s == Failed
}

// Runs says whether a container's command runs in this state, and nobody has asked it
// to end.
func (s State) Runs() bool { return s == Starting || s == Running || s == Ready }

// Goal is what is wanted of a workload.
type Goal string

const (
	// Run: a service is kept running, a job runs to completion.
	Run Goal = "run"
	// Stop: no container; the workload is kept.
	Stop Goal = "stop"
	// Remove: no container and no record.
	Remove Goal = "remove"
	// Pause: no container for now, as the node is going down or is drained. Never
	// persisted: the next agent finds the goal that was there before.
	Pause Goal = "pause"
)

// Desired is what is wanted of a workload, as far as a step needs it.
type Desired struct {
	Goal Goal
	// Run counts the requests for a new instance; an instance of another run is
	// replaced. It goes back only when a trial is withdrawn, and none is used twice.
	Run uint64
	// Grace overrides the grace of the instance that is to stop; nil does not.
	Grace *time.Duration
	// KillBy is when the instance that is to stop is killed whatever its grace is;
	// zero for never.
	KillBy time.Time
	// Paused says why, for a Pause that may last; see pause.go.
	Paused string
	// Trial: it is not known yet whether this run turns out well. Services only; see
	// trial.go.
	Trial bool
	// Completes: a trial whose instance has done what it was for has turned out well. It is
	// the spec that is on trial, and not the versions of secrets.
	Completes bool
	// Delivered is the instance of this run in which the files were replaced by those of
	// the revision; empty when that was done in none.
	Delivered string
	*Revision
}

// Revision is what an instance is made from. It is never changed.
type Revision struct {
	Generation uint64
	Spec       *purserv1.LaunchSpec
	Pins       []*purserv1.Pin
	Policy     Policy
}

// NewRevision makes a revision, with the policy that its spec asks for.
func NewRevision(generation uint64, spec *purserv1.LaunchSpec, pins []*purserv1.Pin) *Revision {
	p := Policy{
		Job:        launchspec.IsJob(spec),
		Restart:    launchspec.RestartPolicy(spec),
		BackoffMin: launchspec.BackoffMin(spec),
		BackoffMax: launchspec.BackoffMax(spec),
		Grace:      launchspec.StopGrace(spec),
		Retries:    uint32(launchspec.Retries(spec)),
		TTL:        -1,
		Startup:    spec.GetProbes().GetStartup() != nil,
		Ready:      spec.GetProbes().GetReady() != nil,
		Live:       spec.GetProbes().GetLive() != nil,
		PreStop:    len(spec.GetHooks().GetPreStop()) > 0,
		Rolling:    launchspec.Strategy(spec) == launchspec.StrategyRolling,
		MinReady:   launchspec.MinReady(spec),

		HealthTimeout: launchspec.HealthTimeout(spec),
	}
	if timeout, ok := launchspec.Timeout(spec); ok {
		p.Timeout = timeout
	}
	if ttl, ok := launchspec.TTL(spec); ok {
		p.TTL = ttl
	}
	return &Revision{Generation: generation, Spec: spec, Pins: pins, Policy: p}
}

// Policy is the part of the launch spec that decides what follows an exit.
type Policy struct {
	Job bool
	// Restart is always, on_failure or never. Services only.
	Restart                string
	BackoffMin, BackoffMax time.Duration
	// Grace is the time from the decision to stop until SIGKILL: for PreStop, too.
	Grace time.Duration
	// Timeout ends an attempt of a job; 0 means never.
	Timeout time.Duration
	// Retries is the number of attempts of a job after its first.
	Retries uint32
	// TTL is how long a finished job is kept; negative means for ever.
	TTL time.Duration
	// Startup, Ready and Live say which probes there are.
	Startup, Ready, Live bool
	// PreStop: a command is run in the container before its stop signal.
	PreStop bool
	// Rolling: an instance is replaced by one that runs beside it until it is healthy,
	// which it is once it has been ready for MinReady on end.
	Rolling  bool
	MinReady time.Duration
	// HealthTimeout is how long one that is on trial has to become healthy, from when it
	// is up; 0 means for ever.
	HealthTimeout time.Duration
}

func (p Policy) probed() bool { return p.Startup || p.Ready || p.Live }

// Status is how far a workload has come.
type Status struct {
	State  State
	Reason string
	Since  time.Time
	// Instance is the container that exists, or may.
	Instance *Instance
	// Kept is the instance of an earlier run that goes on beside it in a rolling change,
	// as a status of its own; nil when there is none. See kept.go.
	Kept *Status
	// Previous is the ID of the instance before the last one that ran, for its logs.
	Previous string
	// Run is the run that the instance, or the last try, belongs to.
	Run uint64
	// Attempts counts the tries of this run, the first included.
	Attempts uint32
	// Failures counts exits in a row without a healthy stretch between them.
	Failures uint32
	// Restarts counts the instances of this generation that ran after its first.
	Restarts uint32
	// NextTry is when a workload that is backing off starts again.
	NextTry  time.Time
	LastExit *Exit
	// ObservedGeneration is that of the running, or last, instance.
	ObservedGeneration uint64
}

// Instance is one container.
type Instance struct {
	ID       string
	Revision *Revision
	// CreatedAt is when it was decided on; StartedAt is zero until it runs.
	CreatedAt, StartedAt time.Time
	// UpAt is when its startup probe had passed, or when it had started without one.
	UpAt        time.Time
	PID         uint32
	ImageDigest string
	// Boot is the boot of the node that it runs on; empty before it runs.
	Boot string
	// Addresses are its own on the node's container network, IPv4 first; none before it
	// runs, and in other network modes.
	Addresses []string

	// Ended: its process is gone, or never was, and nothing is under way that
	// could start it; what is left is to be deleted.
	Ended bool
	// Unverified: known from the record of an earlier agent, and not yet
	// compared with containerd.
	Unverified bool
	// StopSince is when it was decided to stop it; zero when it was not.
	StopSince time.Time
	// PreStopped: the command that comes before the stop signal has ended, however.
	PreStopped bool
	// Signalled: the stop signal has been sent.
	Signalled bool
	// Ending is why it is ended although it is wanted; nil when it is not.
	Ending *Ending
	// Promoting: it is to take over from the kept one, Promoted: it has.
	Promoting, Promoted bool
	// Healthy: on trial, it has served for MinReady on end.
	Healthy bool
	// AdoptedAt is when this agent found it running; zero for one that it has started.
	AdoptedAt time.Time
	// RetryAt holds back an action that failed, Holds times in a row.
	RetryAt time.Time
	Holds   int
	// KillAt is when SIGKILL is due again; zero before it was sent.
	KillAt time.Time
}

// Exit tells how a container ended.
type Exit struct {
	Code   uint32
	Reason string
	// Cause is one of Causes.
	Cause                 string
	StartedAt, FinishedAt time.Time
	Instance              string
}

// LastInstance is the ID of the newest instance that has started, be it that it runs or
// not.
func (s Status) LastInstance() string {
	switch {
	case s.Instance != nil && !s.Instance.StartedAt.IsZero():
		return s.Instance.ID
	case s.Kept != nil && !s.endedAfterKept():
		return s.Kept.Instance.ID
	case s.LastExit != nil:
		return s.LastExit.Instance
	}
	return ""
}

// Containers are the instances whose containers exist, or may: the one that is wanted
// first, then the one that is kept beside it.
func (s Status) Containers() []*Instance {
	var all []*Instance
	if s.Instance != nil {
		all = append(all, s.Instance)
	}
	if s.Kept != nil {
		all = append(all, s.Kept.Instance)
	}
	return all
}

// Container is the instance of that ID, if its container exists or may; else nil.
func (s Status) Container(id string) *Instance {
	for _, i := range s.Containers() {
		if i.ID == id {
			return i
		}
	}
	return nil
}

// ExitOf tells how an instance ended; nil if it has not, or nobody knows any more.
func (s Status) ExitOf(id string) *Exit {
	for _, e := range []*Exit{s.LastExit, s.ofKept().LastExit} {
		if e != nil && e.Instance == id {
			return e
		}
	}
	return nil
}

// Instances are the IDs of all instances that the status knows of: what is
// kept of others, such as their logs, nobody can ask for any more.
func (s Status) Instances() []string {
	var ids []string
	for _, i := range s.Containers() {
		ids = append(ids, i.ID)
	}
	if s.LastExit != nil {
		ids = append(ids, s.LastExit.Instance)
	}
	if s.Previous != "" {
		ids = append(ids, s.Previous)
	}
	return ids
}
