package inject

import (
	"fmt"
	"strings"
)

// MissingError names everything that a launch needs and an environment lacks.
type MissingError struct {
	Environment string
	// Missing is in the order of the references.
	Missing []Missing
}

// Missing is one thing that is not there.
type Missing struct {
	Secret string
	Reason Reason
	// Version that was wanted, or whose keys are missing; 0 when there is none.
	Version uint32
	// Newest version of the secret, when Reason is [ReasonVersion].
	Newest uint32
	// Keys that are missing, sorted. Of a missing secret, those that the
	// reference names.
	Keys []string
}

// Reason says what is missing.
type Reason string

// What can be missing.
const (
	ReasonSecret  Reason = "secret"  // the secret does not exist, or is deleted
	ReasonVersion Reason = "version" // it has no such version
	ReasonPinned  Reason = "pinned"  // it no longer has the version that the workload runs on
	ReasonKeys    Reason = "keys"    // it lacks keys
)

// Error has a line for each thing that is missing, with what to do about it.
func (e *MissingError) Error() string {
	lines := make([]string, len(e.Missing))
	for i, missing := range e.Missing {
		lines[i] = fmt.Sprintf("environment %s: %s", e.Environment, missing.describe(e.Environment))
	}
	return strings.Join(lines, "\n")
}

func (e *MissingError) orNil() error {
	if len(e.Missing) == 0 {
		return nil
	}
	return e
}

func (m Missing) describe(environment string) string {
	command := func(verb string) string {
		return fmt.Sprintf("purser secret %s -E %s %s", verb, environment, m.Secret)
	}
	switch m.Reason {
	case ReasonVersion:
		return fmt.Sprintf("secret %s has no version %d, its newest is %d; see: %s", m.Secret, m.Version, m.Newest, command("versions"))
	case ReasonPinned:
		return fmt.Sprintf("secret %s no longer has version %d, to which this is pinned; to move to the newest, purser restart --secrets the workload or deploy the file, or see: %s",
			m.Secret, m.Version, command("versions"))
	case ReasonKeys:
		return fmt.Sprintf("secret %s lacks %s; add %s with: %s %s=-", m.Secret, nameKeys(m.Keys), pronoun(m.Keys), command("set"), m.Keys[0])
	}
	if len(m.Keys) == 0 {
		return fmt.Sprintf("secret %s does not exist; make it with: %s KEY=-", m.Secret, command("set"))
	}
	return fmt.Sprintf("secret %s does not exist, so lacks %s; make it with: %s %s=-", m.Secret, nameKeys(m.Keys), command("set"), m.Keys[0])
}

func nameKeys(keys []string) string {
	if len(keys) == 1 {
		return "key " + keys[0]
	}
	return "keys " + strings.Join(keys, ", ")
}

func pronoun(keys []string) string {
	if len(keys) == 1 {
		return "it"
	}
	return "each"
}
