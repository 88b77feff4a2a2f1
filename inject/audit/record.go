package audit

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Action is what a record is about.
type Action string

// The actions.
const (
	Opened   Action = "open"     // the agent has begun to write, with what it found
	Set      Action = "set"      // a new version of a secret
	Rollback Action = "rollback" // a new version with an old one's content
	Delete   Action = "delete"   // the end of a secret
	Prune    Action = "prune"    // versions were removed that nobody needs
	Launch   Action = "launch"   // a launch spec was accepted
	Start    Action = "start"    // a workload that had ended was started
	Restart  Action = "restart"  // a restart was asked for
	Rotate   Action = "rotate"   // a workload has moved to other versions of its secrets
	Hold     Action = "hold"     // versions of a secret were held
	Release  Action = "release"  // a hold was ended
	Retry    Action = "retry"    // versions of a secret that had failed are tried again
	Resolve  Action = "resolve"  // an instance was given secrets
	Pull     Action = "pull"     // a registry was given credentials out of a secret
	Exec     Action = "exec"     // a command was run in a container
	Refusal  Action = "refused"  // a call was refused
	Lost     Action = "lost"     // records could not be written
	Unsynced Action = "unsynced" // records were written, and the disk failed to keep them
)

// Actions are all that there are.
var Actions = []Action{Opened, Set, Rollback, Delete, Prune, Launch, Start, Restart, Rotate, Hold, Release, Retry, Resolve, Pull, Exec, Refusal, Lost, Unsynced}

// Outcome is what became of an action.
type Outcome string

// The outcomes. What changes a secret and what runs a command has two records, of
// which the second names the first in Of: without one, it is not known what became of
// it.
const (
	Begun     Outcome = "begun"     // is about to be done
	Done      Outcome = "done"      // was done
	Unchanged Outcome = "unchanged" // there was nothing to do
	Failed    Outcome = "failed"    // could not be done
	Denied    Outcome = "refused"   // was not done, as the request was wrong
	Damaged   Outcome = "damaged"   // of an open: the trail is not what it was
)

// Record is one line of the trail. Seq, Time and Prev are the log's to set.
type Record struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Action  Action    `json:"action"`
	Outcome Outcome   `json:"outcome"`
	// Of is the record of the same action's beginning; the first of Count for Unsynced.
	Of uint64 `json:"of,omitempty"`
	// Begun is that record while it may have no number yet; Of is taken from it.
	Begun *Pending `json:"-"`
	// Caller is nil for what the agent did by itself.
	Caller *Caller `json:"caller,omitempty"`
	// Call is the method of the API, as "Secrets/Put".
	Call        string   `json:"call,omitempty"`
	Environment string   `json:"environment,omitempty"`
	Secrets     []Secret `json:"secrets,omitempty"`
	Workload    string   `json:"workload,omitempty"`
	Generation  uint64   `json:"generation,omitempty"`
	Instance    string   `json:"instance,omitempty"`
	// Command is the program of an exec, without its arguments.
	Command string  `json:"command,omitempty"`
	Image   string  `json:"image,omitempty"`
	Exit    *uint32 `json:"exit,omitempty"`
	// Code is the API's for a refusal.
	Code string `json:"code,omitempty"`
	Why  string `json:"why,omitempty"`
	// Count is how many the record stands for, unless for one.
	Count uint64 `json:"count,omitempty"`
	// Prev is the MAC of the record before.
	Prev string `json:"prev"`
}

// Secret is a version of a secret, and those of its keys that a record is about.
type Secret struct {
	Name    string   `json:"name"`
	Version uint32   `json:"version,omitempty"`
	Keys    []string `json:"keys,omitempty"`
	// Removed are keys that a set takes away.
	Removed []string `json:"removed,omitempty"`
	// Versions are those that a prune has removed, or that a delete has kept.
	Versions []uint32 `json:"versions,omitempty"`
	// More is how many names and numbers there was no room for.
	More int `json:"more,omitempty"`
}

// Caller is who called the API, as the kernel tells of the other end of a unix
// socket when it is connected.
type Caller struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	PID int32  `json:"pid"`
	// Program is the path of its executable, Unit what systemd calls it; both as far
	// as they could be read.
	Program string `json:"program,omitempty"`
	Unit    string `json:"unit,omitempty"`
}

// Limits of a record, which keep a line below maxLine.
const (
	maxText  = 256
	maxNames = 8 << 10 // of all keys and versions, in bytes
	maxOf    = 64      // secrets
)

// numbered returns the record with the number of that of its beginning, which was
// handed over before it.
func (r Record) numbered() Record {
	if r.Begun != nil {
		<-r.Begun.done
		r.Of, r.Begun = r.Begun.seq, nil
	}
	return r
}

// bounded returns the record with what is too long cut short.
func (r Record) bounded() Record {
	for _, text := range []*string{&r.Call, &r.Environment, &r.Workload, &r.Instance, &r.Command, &r.Image, &r.Code, &r.Why} {
		*text = clip(*text)
	}
	if r.Caller != nil {
		c := *r.Caller
		c.Program, c.Unit = clip(c.Program), clip(c.Unit)
		r.Caller = &c
	}
	secrets := r.Secrets[:min(len(r.Secrets), maxOf)]
	r.Secrets = make([]Secret, 0, len(secrets))
	room := maxNames
	for _, s := range secrets {
		r.Secrets = append(r.Secrets, s.bounded(&room))
	}
	return r
}

func (s Secret) bounded(room *int) Secret {
	s.Name = clip(s.Name)
	s.Keys, s.More = fit(s.Keys, s.More, room)
	s.Removed, s.More = fit(s.Removed, s.More, room)
	if n := min(len(s.Versions), max(*room, 0)/versionSize); n < len(s.Versions) {
		s.Versions, s.More = s.Versions[:n], s.More+len(s.Versions)-n
	}
	*room -= versionSize * len(s.Versions)
	return s
}

// versionSize is what a version's number takes at most, with its comma.
const versionSize = 11

// fit returns the names for which there is room, and adds the number of the others.
func fit(names []string, more int, room *int) ([]string, int) {
	var fitting []string
	for i, name := range names {
		name = clip(name)
		if *room -= len(name) + len(`"",`); *room < 0 {
			return fitting, more + len(names) - i
		}
		fitting = append(fitting, name)
	}
	return fitting, more
}

// clip cuts a text that is too long, and makes it one that JSON holds.
func clip(text string) string {
	long := len(text) > maxText
	text = strings.ToValidUTF8(text[:min(len(text), maxText)], "\uFFFD")
	if !long && len(text) <= maxText {
		return text
	}
	cut := min(len(text), maxText-len("…"))
	for cut < len(text) && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
