package agent

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/logs"
)

// Who hears of a leak hears whose it was, as long as anything tells.
func TestLeaksNameTheirWorkload(t *testing.T) {
	a := drainable(t)
	onInstance(a, "a/f", "recorded")
	a.tellOfLeaks([]runtime.Leak{
		{Kind: runtime.LeakFiles, Instance: "logged", About: logs.About{Environment: "prod", Workload: "b/g"}},
		{Kind: runtime.LeakFiles, Instance: "recorded"},
		{Kind: runtime.LeakFiles, Instance: "unknown"},
		{Kind: runtime.LeakMount},
	})
	var owners []string
	err := a.Events(t.Context(), &purserv1.EventsRequest{}, func(e *purserv1.Event) error {
		owners = append(owners, e.GetEnvironment()+" "+e.GetSubject())
		return nil
	})
	if want := []string{"prod b/g", "dev a/f", " ", " "}; err != nil || !slices.Equal(owners, want) {
		t.Errorf("%v, %q, want %q", err, owners, want)
	}
}

// Names of files and keys of damaged records may hold any bytes, messages text alone: one
// that holds others cannot be sent, nor what follows it.
func TestWhatIsToldIsText(t *testing.T) {
	a := drainable(t)
	a.tellOfLeaks([]runtime.Leak{{Kind: runtime.LeakBundle, Name: "/run/\xff\xfe"}})
	entries, _, _ := a.events.After(a.events.Oldest())
	if len(entries) != 1 {
		t.Fatalf("got %v", entries)
	}
	if _, err := proto.Marshal(entries[0].Value); err != nil {
		t.Error(err)
	}
}
