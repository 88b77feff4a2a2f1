package chaos

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// The secrets: all versions of one are good.
const (
	plain   = "s"
	turning = "t"
)

// startsOfATurn is to how many starts of a workload a change of its secret leads at most:
// two tries and the way back, and once more for what one of them has lacked.
const startsOfATurn = 4

// secret is what the model knows of one.
type secret struct {
	values map[int]string
	bad    map[int]bool
	// newest is the highest version, and held the one from which on they are; 0 for none.
	newest, held int
	// turns are the calls since the node was at rest last which move workloads.
	turns int
	// excused: since the newest version something else has died than the agent, so that a
	// good one may have failed.
	excused bool

	// found is what the agent says.
	found *purserv1.DescribeResponse
}

func newSecret() *secret { return &secret{values: map[int]string{}, bad: map[int]bool{}} }

// target is the version that all are to run on, if no good one has failed.
func (s *secret) target() int {
	for v := s.newest; v > 0; v-- {
		if s.values[v] != "" && !s.bad[v] && (s.held == 0 || v < s.held) {
			return v
		}
	}
	return 0
}

// endangered says whether a launch may get a bad version.
func (s *secret) endangered() bool {
	for v := s.newest; v > s.target(); v-- {
		if s.bad[v] && (s.held == 0 || v < s.held) {
			return true
		}
	}
	return false
}

// excuse notes that something has died whose death may be taken for a version's fault.
func (m *model) excuse() {
	for _, s := range m.secrets {
		s.excused = true
	}
}

// turns are how often a workload may have been moved.
func (m *model) turns(t *thing) int {
	if s := m.secrets[t.kind.secretName()]; s != nil {
		return s.turns
	}
	return 0
}

// fits says why what runs is not on a version on which it may rest: the newest good one
// that is not held, and no other unless something has died that is not the agent.
func (s *secret) fits(t *thing, w *purserv1.Workload, p process) string {
	version, value := int(w.GetPins()[0].GetVersion()), p.env["KEY"]
	if t.kind == reader {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root/run/secrets/s/KEY", p.pid))
		value = string(data)
	}
	state := w.GetRotation().GetState()
	switch {
	case value != s.values[version]:
		return fmt.Sprintf("what runs does not have version %d, which it is pinned to, but %q", version, value)
	case s.bad[version]:
		return fmt.Sprintf("it runs on version %d, which is bad", version)
	case s.held != 0 && version >= s.held && !t.ahead(version):
		return fmt.Sprintf("it runs on version %d, and those from %d on are held", version, s.held)
	case !slices.Contains([]string{"current", "held"}, state):
		return fmt.Sprintf("it is %s: %s", state, w.GetRotation().GetReason())
	case s.endangered() && state != "held":
		return "nobody has tried yet what is bad"
	case version < s.target() && (!s.excused || state != "held"):
		return fmt.Sprintf("it runs on version %d, and %d is good: it is %s: %s", version, s.target(), state, w.GetRotation().GetReason())
	case !slices.ContainsFunc(s.found.GetVersions(), func(v *purserv1.SecretVersion) bool { return int(v.GetVersion()) == version }):
		return fmt.Sprintf("version %d, which it runs on, is there no more", version)
	}
	return ""
}

// ahead says whether a workload was on a version before that was held.
func (t *thing) ahead(version int) bool { return version <= t.version }

// lookUp asks the agent for what it knows of secrets.
func (n *node) lookUp(m *model) error {
	for name, s := range m.secrets {
		found, err := ask(n.api.Secrets.Describe, &purserv1.DescribeRequest{Environment: environment, Name: name})
		if err != nil {
			return err
		}
		s.found = found
	}
	return nil
}

// judgeSecrets wants a version to be quarantined if, and only if, it is bad and somebody has
// tried it, as long as nothing died but the agent.
func (m *model) judgeSecrets(states map[string]*purserv1.Workload) (wrong []string) {
	for name, s := range m.secrets {
		for _, v := range s.found.GetVersions() {
			quarantined := v.GetState() == "quarantined"
			if quarantined && !s.bad[int(v.GetVersion())] && !s.excused {
				wrong = append(wrong, fmt.Sprintf("version %d of %s is good, and quarantined: %s", v.GetVersion(), name, v.GetReason()))
			}
			if quarantined && s.bad[int(v.GetVersion())] && !s.excused && !strings.Contains(v.GetReason(), "status 7") && !strings.Contains(v.GetReason(), "not ready") {
				wrong = append(wrong, fmt.Sprintf("version %d of %s is quarantined for another reason than it has: %s", v.GetVersion(), name, v.GetReason()))
			}
		}
		s.turns = 0
	}
	for _, t := range m.things {
		if w := states[t.id()]; w != nil && t.kind.secretName() != "" {
			t.version = int(w.GetPins()[0].GetVersion())
		}
	}
	return wrong
}

// takesBad says whether a call would give a workload a bad version.
func (c *chaos) takesBad(t *thing) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.m.secrets[t.kind.secretName()]
	return s != nil && s.endangered()
}

// putSecret makes a new version, whose number is known afterwards in any case.
func (c *chaos) putSecret(name string, well bool) {
	value := fmt.Sprintf("%s-%d-%d-%d-wX7q", map[bool]string{true: "canary", false: "bad"}[well], os.Getpid(), c.began.UnixNano()%1e6, len(c.m.all))
	s := c.m.secrets[name]
	c.mu.Lock()
	c.m.all = append(c.m.all, value)
	s.turns++
	c.mu.Unlock()
	put, err := ask(c.n.api.Secrets.Put, &purserv1.PutRequest{Environment: environment, Name: name, Data: map[string][]byte{"KEY": []byte(value)}})
	version := int(put.GetVersion())
	if err != nil {
		c.say("  secret: %v", err)
		c.n.awaitAgent(30 * time.Second)
		var is *purserv1.DescribeResponse
		c.surely(func() (err error) {
			is, err = ask(c.n.api.Secrets.Describe, &purserv1.DescribeRequest{Environment: environment, Name: name})
			return err
		})
		for _, v := range is.GetVersions() {
			version = max(version, int(v.GetVersion()))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if version > s.newest {
		s.newest, s.values[version], s.bad[version], s.excused = version, value, !well, false
	}
}

// hold keeps what comes from now on from all.
func (c *chaos) hold() {
	s := c.m.secrets[turning]
	if s.held != 0 {
		return // it would let go of those in between
	}
	from := s.newest + 1
	c.surely(func() error {
		_, err := ask(c.n.api.Secrets.Hold, &purserv1.HoldRequest{Environment: environment, Name: turning, From: uint32(from)})
		return err
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	s.held = from
}

// release lets all go on.
func (c *chaos) release() {
	c.surely(func() error {
		_, err := ask(c.n.api.Secrets.Release, &purserv1.ReleaseRequest{Environment: environment, Name: turning})
		return err
	})
	c.turned(func(s *secret) { s.held = 0 })
}

// retry has all try again.
func (c *chaos) retry() {
	c.turned(func(*secret) {})
	c.surely(func() error {
		_, err := ask(c.n.api.Secrets.Retry, &purserv1.RetryRequest{Environment: environment, Name: turning})
		return err
	})
	c.turned(func(*secret) {})
}

// turned notes that workloads may move.
func (c *chaos) turned(change func(*secret)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.m.secrets[turning]
	s.turns++
	change(s)
}

// surely makes a call until it is answered: it may be made twice.
func (c *chaos) surely(call func() error) {
	for range 10 {
		err := call()
		if err == nil {
			return
		}
		c.say("  secret: %v", err)
		c.n.awaitAgent(30 * time.Second)
	}
	c.t.Error("a call is not answered, however often it is made")
}
