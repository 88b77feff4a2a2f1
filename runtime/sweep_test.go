package runtime

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// nodeModel is what a sweep sees: things with owners, who are known or not.
type nodeModel struct {
	things map[mark]string // their owners
	known  map[string]bool
	seen   map[mark]time.Time
	// since when a thing has been on every list, without an explanation: what seen
	// ought to say.
	since map[mark]time.Time
	now   time.Time
}

func (m *nodeModel) explains(t thing) bool { return t.owner != "" && m.known[t.owner] }

func (m *nodeModel) patience(t thing) time.Duration {
	if t.owner == "" {
		return time.Hour
	}
	return 5 * time.Second
}

func (m *nodeModel) list() []thing {
	var all []thing
	for k, owner := range m.things {
		all = append(all, thing{kind: k.kind, name: k.name, owner: owner})
	}
	return all
}

func (m *nodeModel) sweep(t *rapid.T) {
	found := m.list()
	due, next := orphans(found, m.explains, m.seen, m.now, m.patience)
	m.seen = next
	for _, d := range due {
		since, before := m.since[d.mark()]
		switch {
		case m.explains(d):
			t.Fatalf("%v is known and would be removed", d.mark())
		case !before:
			t.Fatalf("%v would be removed at first sight", d.mark())
		case m.now.Sub(since) < m.patience(d):
			t.Fatalf("%v would be removed after %s", d.mark(), m.now.Sub(since))
		}
	}
	if !slices.IsSortedFunc(due, func(a, b thing) int { return slices.Index(LeakKinds, a.kind) - slices.Index(LeakKinds, b.kind) }) {
		t.Fatalf("not in order: %v", due)
	}
	since := map[mark]time.Time{}
	for _, f := range found {
		if m.explains(f) {
			continue
		}
		since[f.mark()] = m.now
		if at, before := m.since[f.mark()]; before {
			since[f.mark()] = at
		}
	}
	m.since = since
	for _, d := range due {
		delete(m.things, d.mark())
	}
}

// Whatever happens between sweeps, nothing is removed that is known, nor at first sight,
// nor too early; and when nothing happens any more, nothing unknown is left.
func TestOrphans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &nodeModel{things: map[mark]string{}, known: map[string]bool{}, since: map[mark]time.Time{}, now: time.Unix(1, 0)}
		id := rapid.SampledFrom([]string{"", "a", "b", "c"})
		kind := rapid.SampledFrom(LeakKinds)
		t.Repeat(map[string]func(*rapid.T){
			"make": func(t *rapid.T) {
				owner := id.Draw(t, "owner")
				m.things[mark{kind.Draw(t, "kind"), "of " + owner}] = owner
			},
			"know":   func(t *rapid.T) { m.known[id.Draw(t, "id")] = true },
			"forget": func(t *rapid.T) { delete(m.known, id.Draw(t, "id")) },
			"remove": func(t *rapid.T) { delete(m.things, mark{kind.Draw(t, "kind"), "of " + id.Draw(t, "owner")}) },
			"wait": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "seconds")) * time.Second)
			},
			"sweep": m.sweep,
		})
		for range 2 {
			m.sweep(t)
			m.now = m.now.Add(2 * time.Hour)
		}
		m.sweep(t)
		for _, left := range m.list() {
			if !m.explains(left) {
				t.Fatalf("%v is left", left.mark())
			}
		}
	})
}

// Who explains what.
func TestClaims(t *testing.T) {
	set := func(ids ...string) map[string]bool {
		all := map[string]bool{}
		for _, id := range ids {
			all[id] = true
		}
		return all
	}
	c := claims{
		known:      Known{Instances: set("planned"), Logs: set("logged")},
		containers: set("stranger"), tasks: set("task"), tended: set("tended"),
	}
	for _, kind := range LeakKinds {
		for _, id := range []string{"planned", "stranger", "tended"} {
			if !c.explains(thing{kind: kind, owner: id}) {
				t.Errorf("%s of %s is not explained", kind, id)
			}
		}
		if c.explains(thing{kind: kind, owner: "gone"}) {
			t.Errorf("%s of what is gone is explained", kind)
		}
		if got, want := c.explains(thing{kind: kind, owner: "logged"}), kind == LeakLog; got != want {
			t.Errorf("%s whose log is kept is explained: %v", kind, got)
		}
		if got, want := c.explains(thing{kind: kind, owner: "task"}), kind != LeakTask && kind != LeakLog; got != want {
			t.Errorf("%s of a task is explained: %v", kind, got)
		}
	}
}

func TestBundleID(t *testing.T) {
	for path, want := range map[string]string{
		"/run/containerd/io.containerd.runtime.v2.task/purser/abc":        "abc",
		"/run/containerd/io.containerd.runtime.v2.task/other/abc":         "",
		"/run/containerd/io.containerd.runtime.v2.task/purser/abc/rootfs": "",
		"/srv/purser/abc": "",
	} {
		if got := bundleID(path, "purser"); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
