package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject/store"
)

// The states of a version of a secret.
const (
	versionCurrent     = "current"
	versionHeld        = "held"
	versionQuarantined = "quarantined"
	versionPinned      = "pinned"
	versionOld         = "old"
)

// versionState is the state of a version, and why it is that.
func (a *Agent) versionState(info store.Info, v store.VersionInfo, users []string) (state, reason string) {
	book := a.book()
	switch quarantined := book.Quarantine(info.Environment, info.Name, v.Version); {
	case quarantined != nil:
		return versionQuarantined, fmt.Sprintf("%s failed with it: %s", quarantined.GetTriedBy(), quarantined.GetReason())
	case !v.Deleted && book.Held(info.Environment, info.Name, v.Version):
		return versionHeld, rotate.HoldText(book.Hold(info.Environment, info.Name))
	case !v.Deleted && v.Version == a.latestOf(info.Environment, info.Name):
		return versionCurrent, a.partly(info, v.Version)
	case len(users) > 0:
		return versionPinned, a.partly(info, v.Version)
	}
	return versionOld, a.partly(info, v.Version)
}

// withheld says why newer versions of a secret are given to nobody, or will not be; empty
// when they are.
func (a *Agent) withheld(info store.Info) string {
	var reasons []string
	for _, v := range info.Versions {
		if v.Deleted || v.Version <= a.latestOf(info.Environment, info.Name) {
			continue
		}
		if state, _ := a.versionState(info, v, nil); state == versionQuarantined {
			reasons = append(reasons, fmt.Sprintf("version %d is quarantined", v.Version))
		}
	}
	if h := a.book().Hold(info.Environment, info.Name); h != nil {
		reasons = append(reasons, fmt.Sprintf("versions from %d on are held", h.GetFrom()))
	}
	return strings.Join(reasons, "; ")
}

// partly says for whom a version has failed, if not for all: an app, a workload, or all
// but with others alone.
func (a *Agent) partly(info store.Info, version uint32) string {
	for _, v := range a.book().On(info.Environment, info.Name, version) {
		return fmt.Sprintf("%s failed with it: %s", v.GetTriedBy(), v.GetReason())
	}
	return ""
}

// secretUsers are the instances that run on versions of a secret, and the workloads that
// would if they ran.
func (a *Agent) secretUsers(environment, name string) []*purserv1.SecretUser {
	var all []*purserv1.SecretUser
	for _, w := range a.list(environment, "") {
		all = append(all, w.uses(name)...)
	}
	return all
}

// uses is how a workload's instances use a secret.
func (w *workload) uses(name string) []*purserv1.SecretUser {
	standing := w.agent.rotator.standing(w.key)
	user := func(instance string, pins []*purserv1.Pin) []*purserv1.SecretUser {
		i := slices.IndexFunc(pins, func(p *purserv1.Pin) bool { return p.GetSecret() == name && p.GetVersion() != 0 })
		if i < 0 {
			return nil
		}
		reason := standing.Reason
		if standing.State == rotate.Current {
			reason = w.staysOn(name, pins[i].GetVersion())
		}
		return []*purserv1.SecretUser{{Workload: w.id(), Instance: instance, Version: pins[i].GetVersion(), State: standing.State, Reason: reason}}
	}
	var all []*purserv1.SecretUser
	v, _ := w.supervisor.View()
	for _, i := range v.Status.Containers() {
		if !i.Ended {
			all = append(all, user(i.ID, i.Revision.Pins)...)
		}
	}
	if all == nil {
		return user("", w.record().GetPins())
	}
	return all
}

// staysOn says why a workload that is to move nowhere is on another version of a secret
// than a launch gets; empty when it is on that one.
func (w *workload) staysOn(name string, version uint32) string {
	r := w.record()
	refs := r.GetSpec().GetSecrets()
	i := slices.IndexFunc(refs, func(ref *purserv1.SecretRef) bool { return ref.GetName() == name })
	latest := w.agent.latestOf(w.environment(), name)
	switch {
	case i < 0 || version == latest || latest == 0:
		return ""
	case refs[i].GetVersion() != 0:
		return fmt.Sprintf("its spec names version %d", refs[i].GetVersion())
	case launchspec.IsJob(r.GetSpec()):
		return "it is a job, and ends with what it has"
	case r.GetGoal() != string(supervise.Run):
		return "it is not to run"
	case launchspec.OnChange(refs[i]) == launchspec.OnChangeIgnore:
		return fmt.Sprintf("its on_change is ignore: purser restart --secrets -E %s %s", w.environment(), w.id())
	}
	return fmt.Sprintf("version %d changes no key that it uses", latest)
}

// noteOn says what there is to know for somebody who writes a version of a secret: that it
// is made of one that nobody runs on, or that nobody is to run on it for now.
func (a *Agent) noteOn(environment, name string, replace bool) string {
	live := a.secrets.Live(environment, name)
	if len(live) == 0 {
		return ""
	}
	if v := a.book().Quarantine(environment, name, live[0]); v != nil && !replace {
		return fmt.Sprintf("it is made from version %d, which is quarantined, as %s failed with it: %s; to start from nothing: --replace", live[0], v.GetTriedBy(), v.GetReason())
	}
	return a.heldNote(environment, name)
}

// newEnvironment says whether there is nothing yet in the environment of a secret that is
// about to be set: its name may have been mistyped.
func (a *Agent) newEnvironment(environment, name string) bool {
	if len(a.secrets.Live(environment, name)) > 0 || len(a.secrets.List(environment)) > 0 || len(a.list(environment, "")) > 0 {
		return false
	}
	volumes, err := a.volumes.List(environment)
	return err == nil && len(volumes) == 0
}

// heldNote says that nobody moves to new versions of a secret; empty when they may.
func (a *Agent) heldNote(environment, name string) string {
	h := a.book().Hold(environment, name)
	if h == nil {
		return ""
	}
	return fmt.Sprintf("versions from %d on are held: nobody moves there; to end that: purser secret release -E %s %s", h.GetFrom(), environment, name)
}

// hurry has a version wait neither for windows nor for splays. The caller holds writing.
func (a *Agent) hurry(environment, name string, version uint32) error {
	return a.rotator.rewriteBook(func(b rotate.Book) rotate.Book { return b.Prune(a.exists).WithHurry(environment, name, version) })
}

// exists says whether a version is there, deleted or not.
func (a *Agent) exists(environment, name string, version uint32) bool {
	info, err := a.secrets.Describe(environment, name)
	return err == nil && slices.ContainsFunc(info.Versions, func(v store.VersionInfo) bool { return v.Version == version })
}
