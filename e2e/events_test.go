package e2e

import (
	"encoding/json"
	"slices"
)

// event is one as the API shows it.
type event struct{ Type, Subject, Message string }

// events are those of the node so far, in order.
func (n *node) events() []event {
	n.t.Helper()
	messages, err := n.stream("Node/Events", "{}")
	if err != nil {
		n.t.Fatal(err)
	}
	all := make([]event, len(messages))
	for i, m := range messages {
		var answer struct{ Event *event }
		answer.Event = &all[i]
		if err := json.Unmarshal(m, &answer); err != nil {
			n.t.Fatalf("%v in %s", err, m)
		}
	}
	return all
}

// awaitEvents waits for events of some types.
func (n *node) awaitEvents(types ...string) {
	n.t.Helper()
	for _, kind := range types {
		n.eventually("the event "+kind, func() bool {
			return slices.ContainsFunc(n.events(), func(e event) bool { return e.Type == kind })
		})
	}
}

// of counts the events of a kind.
func of(events []event, kind string) int {
	count := 0
	for _, e := range events {
		if e.Type == kind {
			count++
		}
	}
	return count
}

// about counts the events of a kind about somebody.
func about(events []event, kind, subject string) int {
	return of(slices.DeleteFunc(slices.Clone(events), func(e event) bool { return e.Subject != subject }), kind)
}
