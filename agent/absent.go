package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/purserd/purser/api/launchspec"
	"github.com/purserd/purser/runtime"
)

// mostNamed is how many IDs are named at most as what may have been meant.
const mostNamed = 5

// absent is the refusal for a workload that is not there, with where it is or
// which there are.
func (a *Agent) absent(environment, id string) error {
	return refuse(NotFound, "no workload %s in environment %s%s", id, environment, a.meant(environment, id))
}

// meant is what may have been meant by an ID; empty when nothing comes near.
func (a *Agent) meant(environment, id string) string {
	var elsewhere, near, ofApp []string
	for _, w := range a.list("", "") {
		r := w.record()
		switch {
		case w.id() == id:
			elsewhere = append(elsewhere, w.environment())
		case w.environment() == environment && r.GetSpec().GetApp() == id:
			ofApp = append(ofApp, w.id())
		case w.environment() == environment && r.GetSpec().GetFunction() == id:
			near = append(near, w.id())
		}
	}
	switch {
	case len(elsewhere) > 0:
		return fmt.Sprintf("; it is in %s: give -E %s", strings.Join(elsewhere, ", "), elsewhere[0])
	case len(ofApp) > 0:
		return fmt.Sprintf("; %s is an app: for all of it there are purser app stop, rm and logs; its IDs are %s", id, some(ofApp))
	case len(near) > 0:
		return "; there is " + some(near)
	case !strings.Contains(id, "/"):
		return a.formOfIDs(environment)
	}
	if nearest, ok := launchspec.Nearest(id, a.ids(environment)); ok {
		return "; did you mean " + nearest + "?"
	}
	return ""
}

// ids are those of an environment's workloads.
func (a *Agent) ids(environment string) []string {
	return idsOf(a.list(environment, ""))
}

// formOfIDs says what an ID looks like, by those that there are.
func (a *Agent) formOfIDs(environment string) string {
	ids := a.ids(environment)
	if len(ids) == 0 {
		return "; an ID is APP/FUNCTION"
	}
	return "; an ID is APP/FUNCTION, and there is " + some(ids)
}

// some names the first of many.
func some(ids []string) string {
	if len(ids) > mostNamed {
		return strings.Join(ids[:mostNamed], ", ") + "…"
	}
	return strings.Join(ids, ", ")
}

// noImage is runtime.ErrImageNotFound in words for who named the image.
type noImage struct {
	ref, text string
}

func (e *noImage) Error() string { return e.text }
func (e *noImage) Unwrap() error { return runtime.ErrImageNotFound }

// missingImage tells that the node lacks an image, and of an image that it has
// under the same name elsewhere.
func missingImage(ref string, has []string) error {
	name := ref
	full, err := runtime.NormalizeRef(ref)
	if err == nil && full != ref {
		name = fmt.Sprintf("%s (%s)", ref, full)
	}
	text := "image " + name + " is not on this node: bring it with purser image import"
	if !isLocalName(ref) {
		text += ", or purser image pull " + ref
	}
	last := full[strings.LastIndex(full, "/")+1:]
	if i := slices.IndexFunc(has, func(h string) bool { return strings.HasSuffix(h, "/"+last) }); i >= 0 {
		text += "; the node has " + has[i]
	}
	return &noImage{ref, text}
}

// PullableImage returns the image whose absence is all that a launch was refused
// for, if it may be looked for at a registry.
func PullableImage(err error) (ref string, ok bool) {
	var absent *noImage
	if !errors.As(err, &absent) || refusals(err) > 1 || isLocalName(absent.ref) {
		return "", false
	}
	return absent.ref, true
}

// refusals counts the errors that have been joined.
func refusals(err error) int {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		n := 0
		for _, inner := range e.Unwrap() {
			n += refusals(inner)
		}
		return n
	case *Refusal:
		return refusals(e.Err)
	}
	return 1
}
