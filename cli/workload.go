package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

func newPs(s *session) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "ps",
		Aliases: []string{"list", "ls"},
		Short:   "List the workloads that run or should",
		Long: `List the workloads of an environment that run or should. Those that are stopped,
completed or failed are listed with -a. Long reasons are cut: purser get ID has them whole.`,
		Example: `  purser ps
  purser ps -a -E prod
  purser ps --all --all-environments -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return s.ps(cmd.Context(), all) },
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also list what has ended")
	s.everywhereFlag(cmd)
	return cmd
}

func (s *session) ps(ctx context.Context, all bool) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Workloads.List(ctx, connect.NewRequest(&purserv1.ListRequest{Environment: s.scope()}))
	if err != nil {
		return err
	}
	list, hidden := response.Msg, 0
	if !all {
		hidden = hideEnded(list)
	}
	return s.print(list, func() {
		s.workloadTable(list.GetWorkloads(), time.Now())
		switch {
		case hidden > 0:
			s.warn("%s not shown; see purser ps -a", count(hidden, "ended workload", "ended workloads"))
		case len(list.GetWorkloads()) == 0:
			s.warn("%s", s.nothingHere(ctx, api))
		}
	})
}

// nothingHere says that an environment is empty, and which ones are not.
func (s *session) nothingHere(ctx context.Context, api *client.Client) string {
	if s.everywhere {
		return "no workloads"
	}
	text := "no workloads in " + s.environment
	response, err := api.Workloads.List(ctx, connect.NewRequest(&purserv1.ListRequest{}))
	if err != nil {
		return text
	}
	counts := map[string]int{}
	for _, w := range response.Msg.GetWorkloads() {
		counts[w.GetEnvironment()]++
	}
	separator := "; "
	for _, environment := range slices.Sorted(maps.Keys(counts)) {
		text += fmt.Sprintf("%s%s has %d", separator, environment, counts[environment])
		separator = ", "
	}
	return text
}

// hideEnded takes out what has ended and returns how many these were.
func hideEnded(list *purserv1.ListResponse) int {
	before := len(list.Workloads)
	list.Workloads = slices.DeleteFunc(list.Workloads, func(w *purserv1.Workload) bool {
		return slices.Contains(ended, w.GetState())
	})
	return before - len(list.Workloads)
}

func (s *session) newWorkloadTable() *table {
	headings := []string{"ID", "KIND", "STATE", "SINCE", "RESTARTS", "IMAGE", "REASON"}
	if s.everywhere {
		headings = append([]string{"ENVIRONMENT"}, headings...)
	}
	t := newTable(s.out, headings...)
	t.whole = 1 + slices.Index(headings, "ID")
	t.spare = []string{"KIND", "IMAGE", "RESTARTS", "SINCE", "REASON"}
	t.wraps, t.leastText = true, leastReason
	return t
}

func (s *session) workloadTable(workloads []*purserv1.Workload, now time.Time) {
	s.workloadsIn(workloads, now).flush()
}

func (s *session) workloadsIn(workloads []*purserv1.Workload, now time.Time) *table {
	addressed := slices.ContainsFunc(workloads, func(w *purserv1.Workload) bool { return firstAddress(w) != "" })
	t := s.newWorkloadTable()
	if addressed {
		t.insert("ADDRESS", "REASON")
	}
	t.style("STATE", stateStyle)
	for _, w := range workloads {
		cells := []string{
			w.GetId(), launchspec.Kind(w.GetSpec()), w.GetState(), age(w.GetSince(), now),
			fmt.Sprint(w.GetRestarts()), w.GetSpec().GetImage().GetRef(), reasonCell(w, now, t.screen),
		}
		if s.everywhere {
			cells = append([]string{w.GetEnvironment()}, cells...)
		}
		if addressed {
			cells = slices.Insert(cells, len(cells)-1, orDash(firstAddress(w)))
		}
		t.row(cells...)
	}
	return t
}

// firstAddress is that of a workload's first instance that has one.
func firstAddress(w *purserv1.Workload) string {
	for _, i := range w.GetInstances() {
		if all := i.GetAddresses(); len(all) > 0 {
			return all[0]
		}
	}
	return ""
}

func newGet(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "get ID",
		Short: "Show one workload: state, reason, pins, instances, last exit, spec, events",
		Long: `Show one workload: its state and why it is in it, what it waits for, the versions
of secrets that it runs on and what keeps it from newer ones, its instances, its last exit, its spec and its newest
events.`,
		Example: `  purser get rag-qna/answer-question
  purser get -E prod rag-qna/answer-question -o yaml`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.workloadNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return s.get(cmd.Context(), args[0]) },
	}
}

func (s *session) get(ctx context.Context, id string) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Workloads.Get(ctx, connect.NewRequest(&purserv1.GetRequest{Environment: s.environment, Id: id}))
	if err != nil {
		return err
	}
	if s.output != "table" {
		return s.encode(response.Msg)
	}
	w := response.Msg.GetWorkload()
	s.showWorkload(w, newestVersions(ctx, api, w.GetEnvironment()), time.Now())
	if err := s.showSpec(w.GetSpec()); err != nil {
		return err
	}
	return s.showEvents(ctx, api, w)
}

// showWorkload prints a workload; newest are the versions that secrets have by now.
func (s *session) showWorkload(w *purserv1.Workload, newest map[string]uint32, now time.Time) {
	t := newTable(s.out)
	t.field("ID", w.GetId())
	t.field("Environment", w.GetEnvironment())
	t.field("Kind", launchspec.Kind(w.GetSpec()))
	t.field("Image", w.GetSpec().GetImage().GetRef())
	t.field("State", w.GetState()+" for "+age(w.GetSince(), now))
	t.styles[1] = func(cell string) style {
		if cell == w.GetState()+" for "+age(w.GetSince(), now) {
			return stateStyle(w.GetState())
		}
		return plainText
	}
	t.field("Reason", w.GetReason())
	if next := w.GetNextTryAt(); next != nil {
		t.field("Next try", zoned(next)+", "+until(next, now))
	}
	t.field("Generation", generationText(w))
	t.field("Backed out", backedOutText(w))
	t.field("Restarts", fmt.Sprint(w.GetRestarts()))
	t.field("Secrets", pinsText(w.GetPins(), newest))
	t.field("Rotation", rotationText(w.GetRotation()))
	t.field("Moves to", pinsText(w.GetRotation().GetPins(), nil))
	for _, instance := range w.GetInstances() {
		t.field("Instance", instanceText(instance, now)+otherPins(instance, w.GetPins()))
	}
	if exit := w.GetLastExit(); !unmade(exit) { // of which the reason tells all
		t.field("Last exit", exitText(exit, now))
	}
	t.field("Created", zoned(w.GetCreatedAt()))
	t.flush()
}

// showSpec prints what was asked for, but for what is above already.
func (s *session) showSpec(spec *purserv1.LaunchSpec) error {
	rest := proto.CloneOf(spec)
	rest.App, rest.Function, rest.Environment, rest.Id, rest.Kind = nil, nil, nil, nil, nil
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(rest)
	if err != nil {
		return fmt.Errorf("encoding the spec: %w", err)
	}
	var text strings.Builder
	if err := writeYAML(&text, data); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "Spec:")
	for line := range strings.Lines(text.String()) {
		fmt.Fprintln(s.out, "  "+printable(strings.TrimRight(line, "\n")))
	}
	return nil
}

// recentEvents is how many of a workload's are shown with it.
const recentEvents = 5

// showEvents prints the newest events of a workload.
func (s *session) showEvents(ctx context.Context, api *client.Client, w *purserv1.Workload) error {
	stream, err := api.Node.Events(ctx, connect.NewRequest(&purserv1.EventsRequest{Environment: w.GetEnvironment()}))
	if err != nil {
		return err
	}
	defer stream.Close()
	var recent []*purserv1.Event
	for stream.Receive() {
		if e := stream.Msg().GetEvent(); e.GetSubject() == w.GetId() && !slices.Contains(ofSecret, e.GetType()) {
			recent = append(recent, e)
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if len(recent) == 0 {
		return nil
	}
	fmt.Fprintln(s.out, "Events:")
	on, now := screenOf(s.out), time.Now()
	for _, e := range recent[max(0, len(recent)-recentEvents):] {
		kind := on.paint(fmt.Sprintf("%-14s", printable(e.GetType())), severityStyle(e.GetSeverity()))
		fmt.Fprintf(s.out, "  %8s  %s  %s\n", ago(e.GetTime(), now), kind, printable(e.GetMessage()))
	}
	return nil
}

func generationText(w *purserv1.Workload) string {
	text := fmt.Sprint(w.GetGeneration())
	if o := w.GetObservedGeneration(); o != w.GetGeneration() && o != 0 {
		text += fmt.Sprintf(" (instance made from %d)", o)
	}
	if back := w.GetFallsBackTo(); back != 0 {
		text += fmt.Sprintf(", tried: goes back to %d if it fails", back)
	}
	return text
}

// pinsText lists pins, each with the newest version where that is known and another.
func pinsText(pins []*purserv1.Pin, newest map[string]uint32) string {
	var parts []string
	for _, pin := range pins {
		if pin.GetVersion() == 0 {
			parts = append(parts, pin.GetSecret()+" (absent)")
			continue
		}
		text := fmt.Sprintf("%s version %d", pin.GetSecret(), pin.GetVersion())
		if n := newest[pin.GetSecret()]; n != 0 && n != pin.GetVersion() {
			text += fmt.Sprintf(" (newest is %d)", n)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func instanceText(i *purserv1.Instance, now time.Time) string {
	text := i.GetId()
	if i.GetPid() != 0 {
		text += fmt.Sprintf(", pid %d", i.GetPid())
	}
	if i.GetStartedAt() != nil {
		text += ", up " + age(i.GetStartedAt(), now)
	}
	if len(i.GetAddresses()) > 0 {
		text += ", at " + strings.Join(i.GetAddresses(), " and ")
	}
	return text
}

func exitText(exit *purserv1.Exit, now time.Time) string {
	if exit == nil {
		return ""
	}
	text := exit.GetReason()
	if text == "" || !plain(text) {
		text = strings.TrimSuffix(fmt.Sprintf("status %d: %s", exit.GetCode(), text), ": ")
	}
	if exit.GetFinishedAt() != nil {
		text += ", " + ago(exit.GetFinishedAt(), now)
	}
	return text
}
