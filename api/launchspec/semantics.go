package launchspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/sys/signal"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

const (
	// maxEnv is what execve takes for one "KEY=value" with its closing NUL
	// (MAX_ARG_STRLEN).
	maxEnv = 128 << 10
	// minMemory is the least in which a runtime gets a container started.
	minMemory = 6 << 20
	// minTmpfs is one page; the kernel takes less for "no limit".
	minTmpfs = 4 << 10
	// maxSignal is the last real-time signal.
	maxSignal = 64
)

// beyondRules checks what the .proto can't express. A value that breaks a
// declared rule is left alone: it is reported already.
func beyondRules(s *purserv1.LaunchSpec) []violation {
	var c collector
	c.durations(s)
	c.quantities(s)
	c.image(s.GetImage())
	c.env(path{"env"}, s.GetEnv())
	c.env(path{"image", "env"}, s.GetImage().GetEnv())
	c.stopSignal(s.GetStop())
	c.probes(s)
	c.network(s)
	c.rotation(s)
	c.secrets(s.GetSecrets())
	c.secretFiles(s)
	return c.found
}

// collector gathers violations.
type collector struct{ found []violation }

func (c *collector) add(p path, rule, format string, args ...any) {
	c.found = append(c.found, violation{path: p, rule: rule, message: fmt.Sprintf(format, args...)})
}

func (c *collector) durations(s *purserv1.LaunchSpec) {
	c.duration(path{"timeout"}, s.GetTimeout(), time.Nanosecond)
	c.duration(path{"ttl_after_finished"}, s.GetTtlAfterFinished(), 0)
	c.duration(path{"stop", "grace"}, s.GetStop().GetGrace(), 0)
	restart := s.GetRestart()
	minOK := c.duration(path{"restart", "backoff_min"}, restart.GetBackoffMin(), time.Nanosecond)
	maxOK := c.duration(path{"restart", "backoff_max"}, restart.GetBackoffMax(), time.Nanosecond)
	if minOK && maxOK && BackoffMin(s) > BackoffMax(s) {
		c.backoff(restart)
	}
}

// duration tells whether a value, if there is one, is a good one.
func (c *collector) duration(p path, value string, least time.Duration) bool {
	d, err := time.ParseDuration(value)
	switch {
	case value == "":
		return true
	case !matches(periodPattern, value):
		return false
	case err != nil:
		c.add(p, "duration.range", "must be a duration below 292 years")
		return false
	case d < least:
		c.add(p, "duration.positive", "must be longer than 0")
		return false
	}
	return true
}

func (c *collector) backoff(r *purserv1.Restart) {
	if r.BackoffMin == nil {
		c.add(path{"restart", "backoff_max"}, "restart.backoff", "must be at least backoff_min, which is %v by default", DefaultBackoffMin)
		return
	}
	bound := "backoff_max"
	if r.BackoffMax == nil {
		bound += fmt.Sprintf(", which is %v by default", DefaultBackoffMax)
	}
	c.add(path{"restart", "backoff_min"}, "restart.backoff", "must be at most %s", bound)
}

func (c *collector) quantities(s *purserv1.LaunchSpec) {
	c.quantity(path{"resources", "memory"}, s.GetResources().GetMemory(), minMemory, "6Mi, or no container starts")
	for i, m := range s.GetMounts() {
		c.quantity(path{"mounts", i, "size"}, m.GetSize(), minTmpfs, "4Ki")
	}
}

func (c *collector) quantity(p path, value string, least int64, inWords string) {
	if !matches(quantityPattern, value) {
		return
	}
	n, err := parseQuantity(value)
	switch {
	case err != nil:
		c.add(p, "quantity.range", "must be at most 1Ei")
	case n < least:
		c.add(p, "quantity.least", "must be at least %s", inWords)
	}
}

func (c *collector) image(image *purserv1.Image) {
	if ref := image.GetRef(); ref != "" {
		switch {
		case isReference(ref):
		case strings.Contains(ref, "://"):
			scheme, rest, _ := strings.Cut(ref, "://")
			c.add(path{"image", "ref"}, "image.ref", "must not have %s:// in front: leave it out, as in %s", scheme, rest)
		case isReference(strings.ToLower(ref)):
			c.add(path{"image", "ref"}, "image.ref", "must be lower case up to the tag")
		default:
			c.add(path{"image", "ref"}, "image.ref", "must be an image reference such as registry.example/team/app:1.4")
		}
	}
}

func isReference(ref string) bool {
	_, err := reference.ParseDockerRef(ref)
	return err == nil
}

func (c *collector) env(at path, env map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		// The kernel counts the "=" and a closing NUL byte, too.
		if size := len(name) + len(env[name]) + 2; size > maxEnv {
			c.add(at.join(mapKey(name)), "env.size", "must, with its name, be at most 128 KiB; it is %d bytes too long", size-maxEnv)
		}
	}
}

func (c *collector) stopSignal(stop *purserv1.Stop) {
	if name := stop.GetSignal(); matches(signalPattern, name) {
		c.signal(path{"stop", "signal"}, "stop.signal", name)
	}
}

func (c *collector) signal(at path, rule, name string) {
	if n, err := signal.ParseSignal(name); !matches(signalPattern, name) || err != nil || n > maxSignal {
		c.add(at, rule, "is no signal: want a name or number such as SIGTERM, TERM or 15")
	}
}

// secrets checks the names that keys get, which a prefix is part of.
func (c *collector) secrets(refs []*purserv1.SecretRef) {
	for i, ref := range refs {
		c.renamed(path{"secrets", i, "keys"}, ref)
	}
}

func (c *collector) renamed(at path, ref *purserv1.SecretRef) {
	taken := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(ref.GetKeys())) {
		name := ref.GetKeys()[key]
		if other, ok := taken[name]; ok {
			c.add(at.join(mapKey(key)), "keys.unique", "gives the same variable as key %s", other)
		}
		taken[name] = key
		if matches(deliveryPattern, name) && !matches(keyPattern, name) && namesVariables(ref) {
			c.add(at.join(mapKey(key)), "string.pattern", "%s", noVariable(ref))
		}
		if becomesReserved(ref.GetPrefix(), name) {
			c.add(at.join(mapKey(key)), "env.reserved", "must, with the prefix, not start with PURSER_: purser alone sets those variables")
		}
	}
}

// namesVariables says whether keys become variables, of the container or in a file of them.
// Other files may have names that no variable can have.
func namesVariables(ref *purserv1.SecretRef) bool {
	return SecretEnv(ref) || FileFormat(ref.GetFile()) == FormatDotenv
}

// noVariable says what is wrong with a name that only a file could have.
func noVariable(ref *purserv1.SecretRef) string {
	switch {
	case ref.GetFile() == nil:
		return patterns[keyPattern]
	case FileFormat(ref.GetFile()) == FormatDotenv:
		return patterns[keyPattern] + ", as dotenv files are read"
	default:
		return patterns[keyPattern] + "; the name of a file alone, with env: false, may have '.' and '-', too"
	}
}

// becomesReserved tells a variable's name that neither part makes reserved
// alone, which the .proto would refuse.
func becomesReserved(prefix, name string) bool {
	const reserved = "PURSER_"
	return strings.HasPrefix(prefix+name, reserved) &&
		!strings.HasPrefix(prefix, reserved) && !strings.HasPrefix(name, reserved)
}
