package rotate

import (
	"fmt"
	"strings"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// course is how far a trial is, in words.
func course(t *statev1.Trial) string {
	text := "it follows the first of its app"
	switch {
	case t.GetAsked():
		text = "as was asked for"
	case t.GetCanary():
		text = "it goes first of its app"
	}
	if t.GetTry() > 1 {
		text += fmt.Sprintf(", try %d of %d", t.GetTry(), tries)
	}
	return text
}

// verdictText says what keeps somebody from a set of versions.
func verdictText(v *statev1.Verdict) string {
	var members []string
	for _, p := range v.GetSet() {
		members = append(members, fmt.Sprintf("%s version %d", p.GetSecret(), p.GetVersion()))
	}
	set := strings.Join(members, " with ")
	switch {
	case v.GetApp() == "":
		return fmt.Sprintf("%s is quarantined, as %s failed with it: %s", set, v.GetTriedBy(), v.GetReason())
	case v.GetWorkload() == "":
		return fmt.Sprintf("nobody else of the app moves to %s, as %s failed with it: %s", set, v.GetTriedBy(), v.GetReason())
	}
	return fmt.Sprintf("it failed with %s: %s", set, v.GetReason())
}
