package inject

import (
	"fmt"
	"strings"
)

// MissingError names everything that a launch needs and an environment lacks.
type MissingError struct {
	Environment string
	// Workload is that of the [Request].
	Workload string
	// Missing is in the order of the references.
	Missing []Missing
}

// Missing is one thing that is not there.
type Missing struct {
	Secret string
	Reason Reason
	// Version that was wanted, or whose keys are missing; 0 when there is none.
	Version uint32
	// Fixed: the reference names the version.
	Fixed bool
	// Newest version of the secret, when Reason is [ReasonVersion] or [ReasonPinned];
	// 0 when there is none.
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
		lines[i] = fmt.Sprintf("environment %s: %s", e.Environment, missing.describe(e.Environment, e.Workload))
	}
	return strings.Join(lines, "\n")
}

func (e *MissingError) orNil() error {
	if len(e.Missing) == 0 {
		return nil
	}
	return e
}

func (m Missing) describe(environment, workload string) string {
	command := func(verb string) string {
		return fmt.Sprintf("purser secret %s -E %s %s", verb, environment, m.Secret)
	}
	switch m.Reason {
	case ReasonVersion:
		return fmt.Sprintf("secret %s has no version %d, its newest is %d; see: %s", m.Secret, m.Version, m.Newest, command("versions"))
	case ReasonPinned:
		return fmt.Sprintf("secret %s no longer has version %d, %s", m.Secret, m.Version, m.moveOn(environment, workload))
	case ReasonKeys:
		return fmt.Sprintf("secret %s lacks %s; add %s with: %s %s=-", m.Secret, nameKeys(m.Keys), pronoun(m.Keys), command("set"), m.Keys[0])
	}
	if len(m.Keys) == 0 {
		return fmt.Sprintf("secret %s does not exist; make it with: %s KEY=-", m.Secret, command("set"))
	}
	return fmt.Sprintf("secret %s does not exist, so lacks %s; make it with: %s %s=-", m.Secret, nameKeys(m.Keys), command("set"), m.Keys[0])
}

// moveOn says who wants a version that is gone, and what to do about it.
func (m Missing) moveOn(environment, workload string) string {
	switch {
	case m.Fixed:
		return "which the spec names; have it name another one, or none for the newest, and deploy it"
	case workload == "":
		return fmt.Sprintf("on which this revision ran; deploy a file instead, which takes the newest, or see: purser secret versions -E %s %s", environment, m.Secret)
	}
	move := fmt.Sprintf("purser restart --secrets -E %s %s", environment, workload)
	if m.Newest == 0 {
		return fmt.Sprintf("to which %s is pinned, nor any other; set it with: purser secret set -E %s %s KEY=-, and then: %s", workload, environment, m.Secret, move)
	}
	return fmt.Sprintf("to which %s is pinned; to move it to version %d: %s", workload, m.Newest, move)
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
