package rotate

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Book is what a node has learnt of versions of secrets, and was told about them. It is
// never changed: what changes it returns another one. Its zero value is empty.
type Book struct{ record *statev1.Rotation }

// BookOf is the book on record.
func BookOf(record *statev1.Rotation) Book { return Book{record}.withStays() }

// Record is the book as it is persisted.
func (b Book) Record() *statev1.Rotation {
	if b.record == nil {
		return &statev1.Rotation{}
	}
	return b.record
}

// change returns a book that differs.
func (b Book) change(f func(r *statev1.Rotation)) Book {
	r := proto.CloneOf(b.Record())
	f(r)
	return Book{r}
}

// Hold is the hold on a secret; nil when there is none.
func (b Book) Hold(environment, secret string) *statev1.Hold {
	for _, h := range b.record.GetHolds() {
		if h.GetEnvironment() == environment && h.GetSecret() == secret {
			return h
		}
	}
	return nil
}

// Held says whether a version is held.
func (b Book) Held(environment, secret string, version uint32) bool {
	h := b.Hold(environment, secret)
	return h != nil && version >= h.GetFrom()
}

// holds says whether any member of a set is held.
func (b Book) holds(environment string, set []*purserv1.Pin) bool {
	return slices.ContainsFunc(set, func(p *purserv1.Pin) bool { return b.Held(environment, p.GetSecret(), p.GetVersion()) })
}

// WithHold holds the versions of a secret from one on. A hold never releases: one from a
// lower number on stays as it is.
func (b Book) WithHold(h *statev1.Hold) Book {
	if b.Held(h.GetEnvironment(), h.GetSecret(), h.GetFrom()) {
		return b
	}
	return b.WithoutHold(h.GetEnvironment(), h.GetSecret()).change(func(r *statev1.Rotation) { r.Holds = append(r.Holds, h) })
}

// HoldText says from which version on a secret is held, since when and by whom.
func HoldText(h *statev1.Hold) string {
	text := fmt.Sprintf("held from version %d on", h.GetFrom())
	if h.GetAt() != nil {
		text += " since " + h.GetAt().AsTime().Format(time.RFC3339)
	}
	if h.GetBy() != "" {
		text += " by " + h.GetBy()
	}
	return text
}

// WithoutHold ends the hold on a secret.
func (b Book) WithoutHold(environment, secret string) Book {
	return b.change(func(r *statev1.Rotation) {
		r.Holds = slices.DeleteFunc(r.Holds, func(h *statev1.Hold) bool {
			return h.GetEnvironment() == environment && h.GetSecret() == secret
		})
	})
}

// Who is whom a verdict may be for: a workload, its app and its environment.
type Who struct{ Environment, App, Workload string }

// concerns says whether a verdict is for somebody.
func concerns(v *statev1.Verdict, who Who) bool {
	return v.GetEnvironment() == who.Environment &&
		(v.GetApp() == "" || v.GetApp() == who.App) && (v.GetWorkload() == "" || v.GetWorkload() == who.Workload)
}

// Verdict is what keeps somebody from running on a set of versions; nil when nothing does.
// Who is an environment alone is told of verdicts for all of it.
func (b Book) Verdict(who Who, pins []*purserv1.Pin) *statev1.Verdict {
	for _, v := range b.record.GetVerdicts() {
		if concerns(v, who) && contains(pins, v.GetSet()) {
			return v
		}
	}
	return nil
}

// against is the verdict that keeps somebody from moving to pins by changing those of a
// set; nil when there is none. What somebody runs on already, or asks for by its number, is
// no move.
func (b Book) against(who Who, pins, set []*purserv1.Pin) *statev1.Verdict {
	for _, v := range b.record.GetVerdicts() {
		moved := slices.ContainsFunc(v.GetSet(), func(p *purserv1.Pin) bool { return versionIn(set, p.GetSecret()) == p.GetVersion() })
		if moved && concerns(v, who) && contains(pins, v.GetSet()) {
			return v
		}
	}
	return nil
}

// Quarantine is the verdict on a version alone, for all of its environment; nil when there
// is none.
func (b Book) Quarantine(environment, secret string, version uint32) *statev1.Verdict {
	return b.Verdict(Who{Environment: environment}, []*purserv1.Pin{{Secret: secret, Version: version}})
}

// On are the verdicts on sets of which a version of a secret is a member, for whomever.
func (b Book) On(environment, secret string, version uint32) []*statev1.Verdict {
	var all []*statev1.Verdict
	for _, v := range b.record.GetVerdicts() {
		if v.GetEnvironment() == environment && versionIn(v.GetSet(), secret) == version {
			all = append(all, v)
		}
	}
	return all
}

// WithVerdict adds a verdict, unless there is one that says as much.
func (b Book) WithVerdict(v *statev1.Verdict) Book {
	if b.Verdict(Who{v.GetEnvironment(), v.GetApp(), v.GetWorkload()}, v.GetSet()) != nil {
		return b
	}
	return b.change(func(r *statev1.Rotation) { r.Verdicts = append(r.Verdicts, v) })
}

// Acquit drops the verdicts on sets with any version of a secret, and says on which they
// were.
func (b Book) Acquit(environment, secret string) (Book, []uint32) {
	var versions []uint32
	next := b.change(func(r *statev1.Rotation) {
		r.Verdicts = slices.DeleteFunc(r.Verdicts, func(v *statev1.Verdict) bool {
			version := versionIn(v.GetSet(), secret)
			if v.GetEnvironment() != environment || version == 0 {
				return false
			}
			versions = append(versions, version)
			return true
		})
	})
	slices.Sort(versions)
	return next, slices.Compact(versions)
}

// Proof is when a set of versions turned out well in an app for those who use the same
// keys; nil when it has not.
func (b Book) Proof(environment, app string, set []*purserv1.Pin, keys []string) *statev1.Proof {
	for _, p := range b.record.GetProofs() {
		if p.GetEnvironment() == environment && p.GetApp() == app && slices.Equal(p.GetKeys(), keys) && samePins(p.GetSet(), set) {
			return p
		}
	}
	return nil
}

// WithProof adds a proof, which takes the place of an earlier one for the same keys.
func (b Book) WithProof(p *statev1.Proof) Book {
	return b.change(func(r *statev1.Rotation) {
		r.Proofs = slices.DeleteFunc(r.Proofs, func(o *statev1.Proof) bool {
			return o.GetEnvironment() == p.GetEnvironment() && o.GetApp() == p.GetApp() && slices.Equal(o.GetKeys(), p.GetKeys())
		})
		r.Proofs = append(r.Proofs, p)
	})
}

// Hurried says whether one of the versions after another, up to one, waits neither for a
// window nor for a splay: then a later one does not either.
func (b Book) Hurried(environment, secret string, after, upTo uint32) bool {
	return slices.ContainsFunc(b.record.GetHurries(), func(h *statev1.Hurry) bool {
		return h.GetEnvironment() == environment && h.GetSecret() == secret && h.GetVersion() > after && h.GetVersion() <= upTo
	})
}

// Same says whether it is the same book.
func (b Book) Same(other Book) bool { return b.record == other.record }

// WithHurry has a version wait neither for a window nor for a splay. Earlier ones of the
// secret need not any more.
func (b Book) WithHurry(environment, secret string, version uint32) Book {
	return b.change(func(r *statev1.Rotation) {
		r.Hurries = slices.DeleteFunc(r.Hurries, func(h *statev1.Hurry) bool {
			return h.GetEnvironment() == environment && h.GetSecret() == secret
		})
		r.Hurries = append(r.Hurries, &statev1.Hurry{Environment: environment, Secret: secret, Version: version})
	})
}

// Prune drops what is about versions that are no more.
func (b Book) Prune(exists func(environment, secret string, version uint32) bool) Book {
	gone := func(environment string, set []*purserv1.Pin) bool {
		return slices.ContainsFunc(set, func(p *purserv1.Pin) bool { return !exists(environment, p.GetSecret(), p.GetVersion()) })
	}
	return b.change(func(r *statev1.Rotation) {
		r.Verdicts = slices.DeleteFunc(r.Verdicts, func(v *statev1.Verdict) bool { return gone(v.GetEnvironment(), v.GetSet()) })
		r.Proofs = slices.DeleteFunc(r.Proofs, func(p *statev1.Proof) bool { return gone(p.GetEnvironment(), p.GetSet()) })
		r.Hurries = slices.DeleteFunc(r.Hurries, func(h *statev1.Hurry) bool { return !exists(h.GetEnvironment(), h.GetSecret(), h.GetVersion()) })
		r.Stays = slices.DeleteFunc(r.Stays, func(s *statev1.Stay) bool { return !exists(s.GetEnvironment(), s.GetSecret(), s.GetVersion()) })
	})
}

// contains says whether pins hold each member of a set.
func contains(pins, set []*purserv1.Pin) bool {
	return len(set) > 0 && !slices.ContainsFunc(set, func(p *purserv1.Pin) bool { return versionIn(pins, p.GetSecret()) != p.GetVersion() })
}

// versionIn is the version that pins have of a secret; 0 when none.
func versionIn(pins []*purserv1.Pin, secret string) uint32 {
	for _, p := range pins {
		if p.GetSecret() == secret {
			return p.GetVersion()
		}
	}
	return 0
}

// samePins says whether two sets have the same members.
func samePins(a, b []*purserv1.Pin) bool {
	return len(a) == len(b) && (len(a) == 0 || contains(a, b))
}

// Withheld says why nobody of an environment gets a version, alone or with others; empty
// when nothing is known of it.
func (b Book) Withheld(environment, secret string, version uint32) string {
	for _, v := range b.On(environment, secret, version) {
		if v.GetApp() == "" {
			return verdictText(v)
		}
	}
	if b.Held(environment, secret, version) {
		return fmt.Sprintf("%s version %d is %s; to end that: purser secret release -E %s %s", secret, version, HoldText(b.Hold(environment, secret)), environment, secret)
	}
	return ""
}
