package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"

	"github.com/purserd/purser/runtime/logs"
)

// What there is on the node of a container, besides its record in containerd, is in one
// of these places. Delete removes all of it; a [Sweeper] finds what is left where
// something went wrong. Not among them are images, their views, and leases, which
// containerd's own garbage collection lets go, and network namespaces
// that are nobody's but the container's, which end with the processes in it.
const (
	// LeakTask is a task whose container has no record any more.
	LeakTask = "task"
	// LeakRuntimeState is what an OCI runtime knows of a container, with its processes.
	LeakRuntimeState = "runtime_state"
	// LeakCgroup is a cgroup, with the processes in it.
	LeakCgroup = "cgroup"
	// LeakShim is a shim that containerd does not know, or a shared one that serves
	// nothing.
	LeakShim = "shim"
	// LeakBundle is a shim's directory, with the root file system mounted in it.
	LeakBundle = "bundle"
	// LeakNetwork is a network namespace on the node's container network, with its addresses.
	LeakNetwork = "network"
	// LeakOutput is what the log helper keeps of an instance that it reads.
	LeakOutput = "output"
	// LeakFiles are FIFOs and generated files.
	LeakFiles = "files"
	// LeakSecretFiles are files of secrets, and the mark of a container that holds some.
	LeakSecretFiles = "secret_files"
	// LeakRootfs is a writable layer of ours, LeakSnapshot one of containerd's.
	LeakRootfs   = "rootfs"
	LeakSnapshot = "snapshot"
	// LeakLog is a log that no workload has any more.
	LeakLog = "log"
	// LeakExec are the FIFOs of a command that has ended.
	LeakExec = "exec"
	// LeakView and LeakMount are what an image was looked into through.
	LeakView  = "view"
	LeakMount = "mount"
	// LeakTrial is a directory in which it was tried out what works here.
	LeakTrial = "trial"
)

// LeakKinds are all kinds of leaks, in the order in which they are removed: what holds
// something open before what it holds.
var LeakKinds = []string{
	LeakTask, LeakRuntimeState, LeakCgroup, LeakShim, LeakBundle, LeakNetwork, LeakOutput, LeakFiles, LeakSecretFiles,
	LeakRootfs, LeakSnapshot, LeakLog, LeakExec, LeakView, LeakMount, LeakTrial,
}

const (
	// settling is for how long what a container left is let alone: shims and cgroups take
	// their time to go.
	settling = 5 * time.Second
	// temporary is the same for what belongs to no container: it is made for seconds.
	temporary = time.Hour
	// removedAtOnce bounds the work of one sweep.
	removedAtOnce = 64
)

// Known is what the caller of a sweep has a record of.
type Known struct {
	// Instances are those that are planned, or not yet deleted.
	Instances map[string]bool
	// Logs are the instances whose logs are kept.
	Logs map[string]bool
}

// Leak is something that was left on the node, and has been removed.
type Leak struct {
	// Kind is one of LeakKinds.
	Kind string
	// Instance that it was of; empty when of none.
	Instance string
	// About says whose that was; zero where its log had gone before.
	About logs.About
	// Name says which it was: a path, a process.
	Name string
	// Inherited: it was there when the first sweep looked, so that it was left by an
	// earlier process, which may have been killed.
	Inherited bool
}

// thing is something that is on the node for a container, or for a moment.
type thing struct {
	kind, name string
	owner      string // the container's ID; empty when it is no container's, or that of several
	remove     func(context.Context) error
}

// mark tells a thing from others.
type mark struct{ kind, name string }

func (t thing) mark() mark { return mark{t.kind, t.name} }

// Sweeper finds what containers left on the node that are gone, and removes it.
//
// Nothing is taken from a container that lives. What there is is listed first, and only
// then it is asked who is known: by the caller, who records an instance before anything
// of it is made, and by containerd, which knows the containers that the caller may have
// forgotten, and those of others. What nobody knows is removed when the next sweep finds
// it still there, and nobody knows it then either. A process counts as ours by what
// else of its container is in our directories, never by its name alone.
type Sweeper struct {
	r     *Runtime
	known func() Known
	// settling and temporary are in place of the constants, in tests.
	settling, temporary time.Duration
	// seen is since when what nobody knows has been seen; nil before the first sweep.
	seen map[mark]time.Time
	// inherited is what the first sweep saw.
	inherited map[mark]bool
}

// Sweeper returns one that asks known who is known, which must not block. One at a time may
// be used, by one goroutine.
func (r *Runtime) Sweeper(known func() Known) *Sweeper {
	return &Sweeper{r: r, known: known, settling: settling, temporary: temporary}
}

// Sweep looks at the node once, removes what has been left, and returns it. Without
// containerd nobody can tell, so it does nothing then but return ErrUnavailable.
func (s *Sweeper) Sweep(ctx context.Context) ([]Leak, error) {
	ctx = s.r.ctx(ctx)
	inv, err := s.r.inventory(ctx)
	if err != nil {
		return nil, s.r.wrap(err, "looking for what containers left")
	}
	// After the list: what is made from now on is not on it.
	who, err := s.r.claims(ctx, s.known(), inv.tended)
	if err != nil {
		return nil, s.r.wrap(err, "looking for what containers left")
	}
	first := s.seen == nil
	var due []thing
	due, s.seen = orphans(inv.things, who.explains, s.seen, time.Now(), s.patience)
	if first {
		s.inherited = map[mark]bool{}
		for m := range s.seen {
			s.inherited[m] = true
		}
	}
	return s.remove(ctx, due)
}

// patience is for how long something is let alone that nobody explains.
func (s *Sweeper) patience(t thing) time.Duration {
	if t.owner == "" && t.kind != LeakShim {
		return s.temporary
	}
	return s.settling
}

// orphans decides what is to be removed of what was found, in order: what nobody explains,
// if it has been seen before, and for long enough. next is what has been seen since when,
// for the next decision.
func orphans(found []thing, explains func(thing) bool, seen map[mark]time.Time, now time.Time, patience func(thing) time.Duration) (due []thing, next map[mark]time.Time) {
	next = map[mark]time.Time{}
	for _, t := range found {
		if explains(t) {
			continue
		}
		since, before := seen[t.mark()]
		if !before {
			since = now
		}
		next[t.mark()] = since
		if before && now.Sub(since) >= patience(t) {
			due = append(due, t)
		}
	}
	order(due)
	return due, next
}

// order sorts things by the order in which they are to be removed.
func order(all []thing) {
	slices.SortStableFunc(all, func(a, b thing) int {
		return slices.Index(LeakKinds, a.kind) - slices.Index(LeakKinds, b.kind)
	})
}

// errNotLeft says that something is of use again by now.
var errNotLeft = errors.New("it is of use by now")

// remove removes things, some at a time. What cannot be removed is tried again.
func (s *Sweeper) remove(ctx context.Context, due []thing) (gone []Leak, err error) {
	due = due[:min(len(due), removedAtOnce)]
	owners := s.owners(due)
	for _, t := range due {
		if ctx.Err() != nil {
			return gone, errors.Join(err, ctx.Err())
		}
		left, askErr := s.stillLeft(ctx, t)
		if askErr != nil {
			return gone, errors.Join(err, s.r.wrap(askErr, "looking for container %s", t.owner))
		}
		if !left {
			continue
		}
		removeErr := t.remove(ctx)
		if errors.Is(removeErr, errNotLeft) {
			continue
		}
		if removeErr != nil {
			err = errors.Join(err, fmt.Errorf("removing %s %s, which a container left: %w", t.kind, t.name, removeErr))
			continue
		}
		gone = append(gone, Leak{Kind: t.kind, Instance: t.owner, About: owners[t.owner], Name: t.name, Inherited: s.inherited[t.mark()]})
		delete(s.seen, t.mark())
		delete(s.inherited, t.mark())
	}
	return gone, err
}

// owners says by their logs whose the instances were that left something: before anything
// is removed, as the logs may be among it.
func (s *Sweeper) owners(due []thing) map[string]logs.About {
	owners := map[string]logs.About{}
	for _, t := range due {
		if about, err := s.r.logs.About(t.owner); t.owner != "" && err == nil {
			owners[t.owner] = about
		}
	}
	return owners
}

// stillLeft asks once more, right before something is removed.
func (s *Sweeper) stillLeft(ctx context.Context, t thing) (bool, error) {
	if t.owner == "" {
		return true, nil
	}
	k := s.known()
	if k.Instances[t.owner] || t.kind == LeakLog && k.Logs[t.owner] {
		return false, nil
	}
	_, err := s.r.client.ContainerService().Get(ctx, t.owner)
	if isNotFound(err) {
		return true, nil
	}
	return false, err
}

// claims are those who may explain what is there.
type claims struct {
	known Known
	// containers are all that containerd has records of in the namespace, whoever made
	// them; tasks are its tasks.
	containers, tasks map[string]bool
	// tended are containers that have a shim, although not one that we could judge.
	tended map[string]bool
}

func (r *Runtime) claims(ctx context.Context, known Known, tended map[string]bool) (claims, error) {
	c := claims{known: known, containers: map[string]bool{}, tasks: map[string]bool{}, tended: tended}
	records, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return c, err
	}
	for _, record := range records {
		c.containers[record.ID] = true
	}
	answer, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return c, err
	}
	for _, t := range answer.Tasks {
		c.tasks[t.ID] = true
	}
	return c, nil
}

// explains says whether there is a reason for something to be there.
func (c claims) explains(t thing) bool {
	switch id := t.owner; {
	case id == "":
		return false
	case c.known.Instances[id] || c.containers[id] || c.tended[id]:
		return true
	case t.kind == LeakLog:
		return c.known.Logs[id]
	default:
		return c.tasks[id] && t.kind != LeakTask
	}
}

// inventory is what was found on the node.
type inventory struct {
	things []thing
	tended map[string]bool // see claims
}

// inventory lists what there is, also that of containers that live.
func (r *Runtime) inventory(ctx context.Context) (inventory, error) {
	inv := inventory{tended: map[string]bool{}}
	for _, list := range []func(context.Context) ([]thing, error){
		r.leftFiles, r.leftNetworks, r.leftSecretFiles, r.leftRoots, r.leftOutput, r.leftLogs, r.leftStates,
		r.leftSnapshots, r.leftAnchors, r.leftExecs, r.leftMounts, r.leftTrials,
	} {
		found, err := list(ctx)
		if err != nil {
			return inv, err
		}
		inv.things = append(inv.things, found...)
	}
	ours := map[string]bool{}
	for _, t := range inv.things {
		ours[t.owner] = true
	}
	delete(ours, "")
	return inv, r.addUncertain(ctx, &inv, ours)
}

// addUncertain adds what does not say by itself whose it is.
func (r *Runtime) addUncertain(ctx context.Context, inv *inventory, ours map[string]bool) error {
	left, err := r.leftTasks(ctx, ours)
	if err != nil {
		return err
	}
	inv.things = append(inv.things, left...)
	left, err = r.leftRunning(ours, inv.tended)
	inv.things = append(inv.things, left...)
	return err
}

// leftRunning lists what there is of containers that run, or did: shims, their bundles,
// and cgroups. ours are the containers that are ours by what is in our directories, to
// which those are added whose root file systems are.
func (r *Runtime) leftRunning(ours, tended map[string]bool) ([]thing, error) {
	mounted, err := r.mountedBundles()
	if err != nil {
		return nil, err
	}
	for _, b := range mounted {
		ours[b.id] = ours[b.id] || b.ours
	}
	shims, err := r.runningShims(ours)
	if err != nil {
		return nil, err
	}
	all := leftShims(shims, tended)
	all = append(all, r.leftBundles(shims, mounted, ours)...)
	return append(all, r.leftCgroups(shims, ours, tended)...), nil
}
