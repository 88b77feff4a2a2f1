package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// deployFlags say what a deploy does beside deploying.
type deployFlags struct {
	dryRun, wait, watch, force bool
	timeout                    time.Duration
}

func newDeploy(s *session) *cobra.Command {
	var f deployFlags
	cmd := &cobra.Command{
		Use:   "deploy FILE",
		Short: "Make the node's app equal to a file",
		Long: `Make the node's app equal to an app file: its functions are created or updated,
those that the file no longer has are removed. A file with a single launch spec
changes that function alone. ${V}, ${V:-x} and ${V:?message} in the file come
from purser's environment. FILE may be - for standard input.

Returns when the node has accepted all of it, or with --wait when all of it is
ready: a job runs or has completed, a service passes its ready probe or, if it
has none, has started up and run for a second. A job that has failed, or a
service that has ended or been ended by a probe, fails the wait at once; what
has started stays, and what has failed is tried again by its policy. A service
that ran well before is tried twice; then it goes back to the spec that it ran
on, and the wait fails.

--dry-run changes nothing and prints the specs as they would be launched, with
all defaults of the file merged in, as YAML unless -o says otherwise; without a
node it only checks the file.

A function gets the newest versions of its secrets that are neither held nor
quarantined. One that names a quarantined version is refused, unless --force is
given.

--watch goes on: it deploys again whenever FILE is saved, shows what changed, and
prints what the functions write. A file with mistakes is not deployed: they
are printed, and what runs goes on until the next save. An interrupt ends the
watching alone; the functions go on.`,
		Example: `  purser deploy rag-qna.yaml --wait
  APP_ENV=prod purser deploy rag-qna.yaml
  purser deploy rag-qna.yaml --watch
  purser deploy rag-qna.yaml --dry-run
  purser deploy rag-qna.yaml --dry-run -o table`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd, args[0]); err != nil {
				return misuse(cmd, err)
			}
			if f.watch {
				return s.deployWatch(cmd.Context(), args[0], f.force)
			}
			if f.dryRun && !cmd.Flags().Changed("output") {
				s.output = "yaml"
			}
			return s.deploy(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the merged specs and change nothing")
	flags.BoolVar(&f.wait, "wait", false, "return when every function is ready")
	flags.BoolVar(&f.watch, "watch", false, "deploy again whenever FILE is saved, and print logs, until interrupted")
	flags.BoolVar(&f.force, "force", false, "take versions of secrets that FILE names although they are quarantined")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Minute, "give up --wait after this long; what was deployed goes on trying")
	return cmd
}

// check finds flags that contradict each other.
func (f deployFlags) check(cmd *cobra.Command, path string) error {
	switch {
	case f.dryRun && f.wait:
		return errors.New("--dry-run has nothing to --wait for")
	case cmd.Flags().Changed("timeout") && !f.wait:
		return errors.New("--timeout bounds --wait: give both, or neither")
	case f.timeout <= 0:
		return fmt.Errorf("--timeout %s: must be longer than 0, such as 5m", f.timeout)
	case f.watch && f.dryRun:
		return errors.New("--watch deploys, which --dry-run does not")
	case f.watch && f.wait:
		return errors.New("--watch goes on until interrupted, and shows what runs: leave out --wait")
	case f.watch && path == "-":
		return errors.New("--watch needs a file that can be saved, not standard input")
	case f.watch && cmd.Flags().Changed("output"):
		return errors.New("--watch prints for people: leave out -o")
	}
	return nil
}

func (s *session) deploy(ctx context.Context, path string, f deployFlags) error {
	file, err := s.readFile(path)
	if err != nil {
		return err
	}
	request := &purserv1.DeployRequest{
		Environment: s.environment, App: file.App, Specs: file.Specs, Prune: file.Whole, DryRun: f.dryRun, Force: f.force,
	}
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := s.sendDeploy(ctx, api, request, s.warn)
	if f.dryRun && client.Unreachable(err) {
		return s.printUnchecked(file, err)
	}
	if err != nil {
		return err
	}
	if f.dryRun {
		return s.printDry(response.Msg, path)
	}
	if err := s.print(response.Msg, func() { s.changeTable(response.Msg, path) }); err != nil || !f.wait {
		return err
	}
	return s.waitAll(ctx, api, response.Msg.GetChanges(), f.timeout)
}

// sendDeploy deploys, and says which images that waits for.
func (s *session) sendDeploy(ctx context.Context, api *client.Client, request *purserv1.DeployRequest, say func(format string, args ...any)) (*connect.Response[purserv1.DeployResponse], error) {
	var ids []string
	for _, spec := range request.GetSpecs() {
		ids = append(ids, launchspec.ID(spec))
	}
	began := time.Now()
	defer beside(ctx, func(ctx context.Context) { s.tellPulls(ctx, api, ids, began, say) })()
	return api.Apps.Deploy(ctx, connect.NewRequest(request))
}

// readFile parses a file and settles which environment it is for: the file's,
// else the one of -E.
func (s *session) readFile(path string) (*launchspec.File, error) {
	name, data, err := s.readSource(path)
	if err != nil {
		return nil, err
	}
	return s.parse(name, data)
}

// parse is readFile for what has been read.
func (s *session) parse(name string, data []byte) (*launchspec.File, error) {
	file, err := launchspec.Parse(name, data, s.lookup)
	if err != nil {
		return nil, err
	}
	for _, spec := range file.Specs {
		if spec.Environment == nil {
			spec.Environment = proto.String(s.environment)
			continue
		}
		if s.given && spec.GetEnvironment() != s.environment {
			return nil, fmt.Errorf("%s is for the environment %s, which -E %s contradicts: leave out -E, or change the file", name, spec.GetEnvironment(), s.environment)
		}
	}
	if len(file.Specs) > 0 {
		s.environment = file.Specs[0].GetEnvironment()
	}
	return file, nil
}

func (s *session) readSource(path string) (name string, data []byte, err error) {
	if path == "-" {
		data, err = readAll(s.in, maxSpecSource)
		if err != nil {
			err = fmt.Errorf("standard input: %w", err)
		}
		return "standard input", data, err
	}
	data, err = readFile(path, maxSpecSource)
	return path, data, err
}

// printUnchecked shows what the file alone says.
func (s *session) printUnchecked(file *launchspec.File, why error) error {
	s.warn("checked without a node, so not against what runs and which secrets exist: %s", headline(why))
	response := &purserv1.DeployResponse{}
	for _, spec := range file.Specs {
		response.Changes = append(response.Changes, &purserv1.Change{Id: launchspec.ID(spec), Spec: spec})
	}
	return s.printDry(response, "")
}

// printDry prints what would change. It is read, and compared with the file, so
// that what nobody wrote is left out.
func (s *session) printDry(response *purserv1.DeployResponse, file string) error {
	if s.output != "table" {
		return s.encodeSparse(response)
	}
	s.changeTable(response, file)
	return nil
}

// changeTable shows what a deploy changes. What is removed is not in the file; an
// empty one is a revision.
func (s *session) changeTable(response *purserv1.DeployResponse, file string) {
	t := s.newChangeTable()
	for _, change := range response.GetChanges() {
		action := orDash(change.GetAction())
		if action == "remove" && file != "" {
			action += ": not in " + file
		}
		t.row(change.GetId(), action, change.GetSpec().GetImage().GetRef())
	}
	t.flush()
	if response.GetRevision() > 0 {
		fmt.Fprintf(s.out, "revision %d in %s\n", response.GetRevision(), s.environment)
	}
}

func (s *session) newChangeTable() *table {
	t := newTable(s.out, "ID", "CHANGE", "IMAGE")
	t.spare = []string{"IMAGE"}
	return t
}

// waitAll returns when everything deployed runs or has completed, or the
// first has failed.
func (s *session) waitAll(ctx context.Context, api *client.Client, changes []*purserv1.Change, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	all, ctx := errgroup.WithContext(ctx)
	ids := pluck(changes, (*purserv1.Change).GetId)
	defer beside(ctx, func(ctx context.Context) { s.tellWaits(ctx, api, ids) })()
	for _, change := range changes {
		if change.GetAction() == "remove" {
			continue
		}
		all.Go(func() error { return s.waitOne(ctx, api, change.GetId()) })
	}
	err := all.Wait()
	if connect.CodeOf(err) == connect.CodeDeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		ctx = context.WithoutCancel(ctx)
		return hint(fmt.Errorf("not everything is ready after %s%s", timeout, s.unready(ctx, api, changes)),
			"see purser ps -E %s, and purser get -E %s ID; what was deployed stays, and goes on trying", s.environment, s.environment)
	}
	return err
}

// unready has a line for each function deployed that is not ready: its state and why.
func (s *session) unready(ctx context.Context, api *client.Client, changes []*purserv1.Change) string {
	ctx, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	response, err := api.Workloads.List(ctx, connect.NewRequest(&purserv1.ListRequest{Environment: s.environment}))
	if err != nil {
		return "" // less is known, which is no reason to say something else
	}
	deployed := pluck(changes, (*purserv1.Change).GetId)
	var lines strings.Builder
	for _, w := range response.Msg.GetWorkloads() {
		if !slices.Contains(deployed, w.GetId()) || isReady(w) {
			continue
		}
		lines.WriteString("\n" + sentence(w, time.Now()))
	}
	return lines.String()
}

func (s *session) waitOne(ctx context.Context, api *client.Client, id string) error {
	request := &purserv1.WaitRequest{Environment: s.environment, Id: id, Until: "ready"}
	response, err := api.Workloads.Wait(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	w := response.Msg.GetWorkload()
	if w.GetBackedOut() != nil {
		return hint(fmt.Errorf("%s: %s", w.GetId(), backedOutText(w)), "see purser logs -E %s %s --previous; a better one, or the same again, is tried when it is deployed", s.environment, id)
	}
	switch w.GetState() {
	case "failed", "stopped":
		return hint(gaveUp(w), "see purser logs -E %s %s%s", s.environment, id, s.wayBack(w))
	case "backing_off":
		return hint(gaveUp(w), "see purser logs -E %s %s, with --previous once it runs again%s", s.environment, id, s.wayBack(w))
	}
	return nil
}

// gaveUp says that it is not waited for any more what was deployed, and why: there may be
// others that are no better.
func gaveUp(w *purserv1.Workload) error {
	return fmt.Errorf("not waiting any longer: %s", sentence(w, time.Now()))
}

// wayBack is the command that takes an app back; empty for a workload of none.
func (s *session) wayBack(w *purserv1.Workload) string {
	app := w.GetSpec().GetApp()
	if app == "" {
		return ""
	}
	return fmt.Sprintf("; to go back: purser app rollback -E %s %s", s.environment, app)
}
