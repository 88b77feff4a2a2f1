package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/cli/watch"
	"github.com/purserd/purser/client"
)

// watching is one `purser deploy --watch`.
type watching struct {
	session *session
	api     *client.Client
	console *console
	path    string
	// given is the environment of -E, or its default, for files that name none.
	given string
	// force takes quarantined versions that the file names.
	force bool

	// data is what the file had when it was last tried to be deployed, and deployed
	// whether it was.
	data     []byte
	deployed bool
	// gone: the file was not there when it was last looked for.
	gone bool
	// waiting counts the tries in a row in which the node did not answer.
	waiting int
	// unmet is what was printed last of why the node cannot take the file yet, and
	// unmetTries how often it was tried with that outcome.
	unmet      string
	unmetTries int
	// inForce is what was deployed last; nil for nothing.
	inForce *launchspec.File

	// stopFollower ends the printing of logs, and waits for that.
	stopFollower func()
}

var (
	// errLater tells that a deploy has to be tried again.
	errLater = errors.New("the node does not answer")
	// errUnmet tells that the node lacks something, such as a secret, which may come.
	errUnmet = errors.New("the node lacks something")
)

// The time between two tries to deploy what the node lacks something for: twice as
// long with each.
const (
	unmetPause    = time.Second
	maxUnmetPause = 30 * time.Second
)

func (s *session) deployWatch(ctx context.Context, path string, force bool) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second interrupt ends it at once
	}()
	api, err := s.dial()
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return err
	}
	file, err := watch.New(path)
	if err != nil {
		return err
	}
	w := &watching{session: s, api: api, console: s.newConsole(), path: path, given: s.environment, force: force, stopFollower: func() {}}
	return w.run(ctx, file)
}

// run deploys the file now and after every change, until ctx ends.
func (w *watching) run(ctx context.Context, file *watch.File) error {
	ctx, cancel := context.WithCancel(ctx)
	watched := async(func() error { return file.Run(ctx) })
	err := w.loop(ctx, file.Changed(), watched)
	cancel()
	w.stopFollower()
	if err == nil {
		w.farewell()
	}
	return err
}

func (w *watching) loop(ctx context.Context, changed <-chan struct{}, watched <-chan error) error {
	for {
		err := w.look(ctx)
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLater):
			again = time.After(jittered(retryPause))
		case errors.Is(err, errUnmet):
			again = time.After(jittered(min(unmetPause<<min(w.unmetTries, 10), maxUnmetPause)))
			w.unmetTries++
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-watched:
			return err
		case <-changed:
		case <-again:
		}
	}
}

// look deploys the file if there is something to deploy. What is wrong with it is
// printed; an error ends the watching, unless it is errLater.
func (w *watching) look(ctx context.Context) error {
	data, err := readFile(w.path, maxSpecSource)
	if errors.Is(err, fs.ErrNotExist) {
		if !w.gone {
			w.console.say("%s is gone; what was deployed runs on, and is deployed anew when it is back", w.path)
		}
		w.gone = true
		return nil
	}
	if err != nil {
		w.refused(err)
		return nil
	}
	if w.deployed && !w.gone && bytes.Equal(data, w.data) {
		return nil // written as it was
	}
	if !bytes.Equal(data, w.data) {
		w.unmet, w.unmetTries = "", 0
	}
	w.data, w.deployed, w.gone = data, false, false
	w.session.environment = w.given
	parsed, err := w.session.parse(w.path, data)
	if err != nil {
		w.refused(err)
		return nil
	}
	return w.deploy(ctx, parsed)
}

func (w *watching) deploy(ctx context.Context, file *launchspec.File) error {
	began := time.Now()
	before, response, err := w.send(ctx, file)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil
	case !connect.IsWireError(err) && w.inForce == nil && w.waiting == 0:
		return err
	case !connect.IsWireError(err), connect.CodeOf(err) == connect.CodeUnavailable:
		if w.waiting++; w.waiting == retriesUnsaid+1 {
			w.console.say("%s is not deployed yet: %s; trying again", w.path, outageText(err))
		}
		return errLater
	case connect.CodeOf(err) == connect.CodeFailedPrecondition:
		w.lacks(err)
		return errUnmet
	default:
		w.refused(err)
		return nil
	}
	w.waiting, w.deployed = 0, true
	w.unmet, w.unmetTries = "", 0
	w.show(file, before, response)
	w.follow(ctx, file, began)
	w.inForce = file
	return nil
}

// send deploys a file, and returns also the specs that were in force before.
func (w *watching) send(ctx context.Context, file *launchspec.File) (map[string]*purserv1.LaunchSpec, *purserv1.DeployResponse, error) {
	environment := w.session.environment
	list, err := w.api.Workloads.List(ctx, connect.NewRequest(&purserv1.ListRequest{Environment: environment, App: file.App}))
	if err != nil {
		return nil, nil, err
	}
	before := map[string]*purserv1.LaunchSpec{}
	for _, workload := range list.Msg.GetWorkloads() {
		before[workload.GetId()] = workload.GetSpec()
	}
	response, err := w.session.sendDeploy(ctx, w.api, &purserv1.DeployRequest{
		Environment: environment, App: file.App, Specs: file.Specs, Prune: file.Whole, Force: w.force,
	}, w.console.say)
	if err != nil {
		return nil, nil, err
	}
	return before, response.Msg, nil
}

// refused prints why the file is not deployed, until it is saved.
func (w *watching) refused(err error) {
	w.explain(err, fmt.Sprintf("waiting for %s to be saved", w.path))
}

// lacks prints why the file cannot be deployed yet, once.
func (w *watching) lacks(err error) {
	if w.unmet == err.Error() {
		return
	}
	w.unmet, w.unmetTries = err.Error(), 0
	w.explain(err, "trying again until it can be")
}

// explain prints why the file is not deployed, and what follows.
func (w *watching) explain(err error, next string) {
	w.waiting = 0
	text := "nothing is deployed yet"
	if w.inForce != nil {
		text = "what was deployed before runs on"
	}
	lines := describe(err, w.session.host)
	lines[0] = w.console.screen.paint(lines[0], red)
	w.console.complain(append(lines, fmt.Sprintf("  %s; %s", text, next)))
}

// show prints what a deploy changed.
func (w *watching) show(file *launchspec.File, before map[string]*purserv1.LaunchSpec, response *purserv1.DeployResponse) {
	if w.inForce == nil {
		w.console.say("watching %s; an interrupt ends the watching, and what runs goes on", w.path)
	} else if place(file) != place(w.inForce) {
		w.console.say("%s; the file is of %s now", w.staying(), place(file))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s: revision %d of %s in %s", time.Now().Format(time.TimeOnly), w.path, response.GetRevision(), file.App, w.session.environment)
	same := true
	for _, change := range response.GetChanges() {
		if change.GetAction() == "unchanged" {
			continue
		}
		same = false
		w.showChange(&text, change, before[change.GetId()])
	}
	if same {
		text.WriteString(", nothing to change")
	}
	w.console.say("%s", text.String())
}

func (w *watching) showChange(text *strings.Builder, change *purserv1.Change, before *purserv1.LaunchSpec) {
	paint := w.console.screen.paint
	switch change.GetAction() {
	case "create":
		fmt.Fprintf(text, "\n  %s %s", paint("created", green), change.GetId())
	case "remove":
		fmt.Fprintf(text, "\n  %s %s", paint("removed", red), change.GetId())
	case "update":
		fmt.Fprintf(text, "\n  %s %s", paint("updated", yellow), change.GetId())
		for _, c := range specChanges(before, change.GetSpec()) {
			old, now := c.clipped()
			fmt.Fprintf(text, "\n    %s: %s → %s", printable(c.field), paint(old, red), paint(now, green))
		}
	}
}

// follow prints what the functions of a file write, from the time on at which its
// deploy began.
func (w *watching) follow(ctx context.Context, file *launchspec.File, from time.Time) {
	w.console.name(pluck(file.Specs, (*purserv1.LaunchSpec).GetFunction)...)
	if w.inForce != nil && place(file) == place(w.inForce) {
		return
	}
	w.stopFollower()
	f := &follower{
		api: w.api, environment: w.session.environment, app: file.App,
		from: from, console: w.console, followed: map[string]*followed{},
	}
	if !file.Whole {
		f.id = launchspec.ID(file.Specs[0])
	}
	w.stopFollower = beside(ctx, f.run)
}

// place is what a file is of: an app, or a single workload.
func place(file *launchspec.File) string {
	environment := launchspec.Environment(file.Specs[0])
	if file.Whole {
		return fmt.Sprintf("app %s in %s", file.App, environment)
	}
	return fmt.Sprintf("%s in %s", launchspec.ID(file.Specs[0]), environment)
}

// staying tells that what is in force goes on, and how that is ended.
func (w *watching) staying() string {
	environment := launchspec.Environment(w.inForce.Specs[0])
	command := fmt.Sprintf("app stop -E %s %s", environment, w.inForce.App)
	if !w.inForce.Whole {
		command = fmt.Sprintf("stop -E %s %s", environment, launchspec.ID(w.inForce.Specs[0]))
	}
	return fmt.Sprintf("%s runs on; to stop it: purser %s", place(w.inForce), command)
}

func (w *watching) farewell() {
	if w.inForce == nil {
		w.console.say("not watching any more; nothing was deployed")
		return
	}
	w.console.say("not watching any more; %s", w.staying())
}
