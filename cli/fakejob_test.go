package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/api/codec"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// fakeJob is a workload of a fakeNode. The node's lock guards all of it.
type fakeJob struct {
	node            *fakeNode
	environment, id string
	spec            *purserv1.LaunchSpec
	state, reason   string
	exit            *purserv1.Exit
	since           *timestamppb.Timestamp
	log             []*purserv1.LogsResponse
	process         *exec.Cmd
	stdin           io.WriteCloser
	stopped         bool
	pins            []*purserv1.Pin
}

// launch starts a function. Images have meanings here: missing:latest is not
// on the node, spec:latest writes its own spec, of unmade:latest no container
// can be made, stuck:latest waits for ever, crashing:latest has
// ended and is to be started again, and in:grace and late:grace timed out and exited with 0 and 3.
func (n *fakeNode) launch(spec *purserv1.LaunchSpec) (*fakeJob, error) {
	job := &fakeJob{node: n, environment: launchspec.Environment(spec), id: launchspec.ID(spec), spec: spec, since: now()}
	n.mu.Lock()
	defer n.mu.Unlock()
	job.pins = n.pins(spec)
	n.jobs[job.environment+":"+job.id] = job
	defer n.notify()
	switch spec.GetImage().GetRef() {
	case "missing:latest":
		job.state, job.reason = "failed", "image missing:latest is not on the node; import it with: purser image import"
	case "spec:latest":
		data, err := codec.MarshalYAML(spec)
		if err != nil {
			return nil, err
		}
		job.write("stdout", data)
		job.state, job.exit = "completed", &purserv1.Exit{StartedAt: now()}
	case "unmade:latest":
		job.state, job.reason = "failed", "mounting /data: no such device"
		job.exit = &purserv1.Exit{Code: exitSignalled, Reason: job.reason}
	case "stuck:latest":
		job.state, job.reason = "backing_off", "containerd is unavailable"
	case "crashing:latest":
		job.state, job.reason = "backing_off", "exited with status 3"
		job.exit = &purserv1.Exit{Code: 3, Reason: job.reason, StartedAt: now()}
	case "in:grace":
		job.timedOut(0)
	case "late:grace":
		job.timedOut(3)
	default:
		job.run(append(spec.GetCommand(), spec.GetArgs()...))
	}
	return job, nil
}

func (j *fakeJob) timedOut(code uint32) {
	j.state, j.reason = "failed", "timed out after 1s"
	j.exit = &purserv1.Exit{Code: code, Reason: j.reason, StartedAt: now()}
}

func (j *fakeJob) run(argv []string) {
	if len(argv) == 0 {
		argv = []string{"true"}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = j.node.environ(j.spec)
	cmd.Stdout, cmd.Stderr = jobWriter{j, "stdout"}, jobWriter{j, "stderr"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var err error
	if j.spec.GetStdin() {
		if j.stdin, err = cmd.StdinPipe(); err != nil {
			panic(err)
		}
	}
	if err := cmd.Start(); err != nil {
		code := uint32(127)
		if errors.Is(err, syscall.EACCES) {
			code = 126
		}
		j.state, j.reason = "failed", err.Error()
		j.exit = &purserv1.Exit{Code: code, Reason: err.Error()}
		return
	}
	j.process, j.state = cmd, "running"
	started := now()
	go func() {
		_ = cmd.Wait()
		j.finish(started)
	}()
}

func (j *fakeJob) finish(started *timestamppb.Timestamp) {
	j.node.mu.Lock()
	defer j.node.mu.Unlock()
	status := j.process.ProcessState.Sys().(syscall.WaitStatus)
	code := uint32(status.ExitStatus())
	if status.Signaled() {
		code = exitSignalled + uint32(status.Signal())
	}
	j.exit = &purserv1.Exit{Code: code, Reason: "exited with status " + strconv.Itoa(int(code)), StartedAt: started, FinishedAt: now()}
	j.process = nil
	switch {
	case j.stopped:
		j.state = "stopped"
	case code == 0:
		j.state = "completed"
	default:
		j.state, j.reason = "failed", j.exit.GetReason()
	}
	j.node.notify()
}

// jobWriter is a stream of a function.
type jobWriter struct {
	job    *fakeJob
	stream string
}

func (w jobWriter) Write(data []byte) (int, error) {
	w.job.node.mu.Lock()
	defer w.job.node.mu.Unlock()
	w.job.write(w.stream, data)
	w.job.node.notify()
	return len(data), nil
}

func (j *fakeJob) write(stream string, data []byte) {
	j.log = append(j.log, &purserv1.LogsResponse{Id: j.id, Stream: stream, Time: now(), Data: bytes.Clone(data)})
}

// stop kills what runs.
func (j *fakeJob) stop() {
	j.node.mu.Lock()
	defer j.node.mu.Unlock()
	j.stopped = true
	if j.process != nil {
		_ = syscall.Kill(-j.process.Process.Pid, syscall.SIGKILL)
	} else {
		j.state = "stopped"
	}
	j.node.notify()
}

func (n *fakeNode) killAll() {
	n.mu.Lock()
	jobs := make([]*fakeJob, 0, len(n.jobs))
	for _, job := range n.jobs {
		jobs = append(jobs, job)
	}
	n.mu.Unlock()
	for _, job := range jobs {
		job.stop()
	}
}

// Watch tells what there is now, and of no change.
func (n *fakeNode) Watch(ctx context.Context, r *connect.Request[purserv1.WatchRequest], stream *connect.ServerStream[purserv1.WatchResponse]) error {
	list, err := n.List(ctx, connect.NewRequest(&purserv1.ListRequest{Environment: r.Msg.GetEnvironment()}))
	if err != nil {
		return err
	}
	for _, w := range list.Msg.GetWorkloads() {
		if err := stream.Send(&purserv1.WatchResponse{Type: "updated", Workload: w}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (j *fakeJob) message() *purserv1.Workload {
	j.node.mu.Lock()
	defer j.node.mu.Unlock()
	return j.snapshot()
}

func (j *fakeJob) snapshot() *purserv1.Workload {
	return &purserv1.Workload{
		Environment: j.environment, Id: j.id, Spec: j.spec, Generation: 1, ObservedGeneration: j.observed(),
		State: j.state, Reason: j.reason, Since: j.since, LastExit: j.exit, Pins: j.pins, Rotation: j.rotation(),
	}
}

// pins are the versions of secrets that a spec gets now.
func (n *fakeNode) pins(spec *purserv1.LaunchSpec) []*purserv1.Pin {
	var pins []*purserv1.Pin
	for _, ref := range spec.GetSecrets() {
		pin := &purserv1.Pin{Secret: ref.GetName()}
		if secret := n.secrets[launchspec.Environment(spec)+":"+ref.GetName()]; secret != nil {
			pin.Version = uint32(len(secret.versions))
		}
		pins = append(pins, pin)
	}
	return pins
}

// observed is the generation that an instance was made of; 0 when none was.
func (j *fakeJob) observed() uint64 {
	if j.exit != nil && unmade(j.exit) {
		return 0
	}
	return 1
}

// environ gives a function its secrets' values and its own variables.
func (n *fakeNode) environ(spec *purserv1.LaunchSpec) []string {
	env := []string{"PATH=/usr/bin:/bin"}
	for _, ref := range spec.GetSecrets() {
		if secret := n.secrets[launchspec.Environment(spec)+":"+ref.GetName()]; secret != nil {
			for key, value := range secret.newest() {
				env = append(env, key+"="+string(value))
			}
		}
	}
	for key, value := range spec.GetEnv() {
		env = append(env, key+"="+value)
	}
	return env
}

func (n *fakeNode) Logs(ctx context.Context, r *connect.Request[purserv1.LogsRequest], stream *connect.ServerStream[purserv1.LogsResponse]) error {
	if r.Msg.GetApp() != "" {
		return n.appLogs(r.Msg, stream)
	}
	job, err := n.find(r.Msg.GetEnvironment(), r.Msg.GetId())
	if err != nil {
		return err
	}
	sent := 0
	if r.Msg.Tail != nil {
		sent = max(0, len(job.log)-int(r.Msg.GetTail()))
	}
	for {
		var fresh []*purserv1.LogsResponse
		err := n.await(ctx, func() bool {
			fresh = job.log[sent:]
			return len(fresh) > 0 || job.process == nil || !r.Msg.GetFollow()
		})
		if err != nil {
			return err
		}
		for _, entry := range fresh {
			if err := stream.Send(entry); err != nil {
				return err
			}
		}
		if sent += len(fresh); len(fresh) == 0 {
			return nil
		}
	}
}

func (n *fakeNode) appLogs(r *purserv1.LogsRequest, stream *connect.ServerStream[purserv1.LogsResponse]) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, job := range n.jobs {
		if job.spec.GetApp() != r.GetApp() {
			continue
		}
		for _, entry := range job.log {
			if err := stream.Send(entry); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *fakeNode) Signal(_ context.Context, r *connect.Request[purserv1.SignalRequest]) (*connect.Response[purserv1.SignalResponse], error) {
	number, err := strconv.Atoi(r.Msg.GetSignal())
	if err != nil {
		number = map[string]int{"SIGHUP": 1, "SIGTERM": 15, "SIGUSR1": 10}[strings.ToUpper(r.Msg.GetSignal())]
	}
	job, err := n.find(r.Msg.GetEnvironment(), r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if job.process == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(job.id+" does not run"))
	}
	if err := job.process.Process.Signal(syscall.Signal(number)); err != nil {
		return nil, err
	}
	return connect.NewResponse(&purserv1.SignalResponse{}), nil
}

func (n *fakeNode) Attach(ctx context.Context, stream *connect.BidiStream[purserv1.AttachRequest, purserv1.AttachResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	job, err := n.find(first.GetEnvironment(), first.GetId())
	if err != nil {
		return err
	}
	// Before any input is passed on, so that no answer to it is missed.
	n.mu.Lock()
	sent := len(job.log)
	n.mu.Unlock()
	if job.stdin != nil {
		if err := stream.Send(&purserv1.AttachResponse{StdinRoom: 1 << 20}); err != nil {
			return err
		}
	}
	go func() {
		for {
			m, err := stream.Receive()
			if err != nil || job.stdin == nil {
				return
			}
			_, _ = job.stdin.Write(m.GetStdin())
			if m.GetCloseStdin() {
				job.stdin.Close()
				return
			}
		}
	}()
	for {
		var fresh []*purserv1.LogsResponse
		err := n.await(ctx, func() bool {
			fresh = job.log[sent:]
			return len(fresh) > 0 || job.process == nil
		})
		if err != nil {
			return err
		}
		for _, entry := range fresh {
			if err := stream.Send(&purserv1.AttachResponse{Stream: entry.GetStream(), Data: entry.GetData()}); err != nil {
				return err
			}
		}
		if sent += len(fresh); len(fresh) == 0 {
			return stream.Send(&purserv1.AttachResponse{Exit: job.message().GetLastExit()})
		}
	}
}

func (n *fakeNode) Exec(ctx context.Context, stream *connect.BidiStream[purserv1.ExecRequest, purserv1.ExecResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if _, err := n.find(start.GetEnvironment(), start.GetId()); err != nil {
		return err
	}
	if start.GetTty() {
		return execOnTerminal(stream, start.GetCommand()[0])
	}
	cmd := exec.CommandContext(ctx, start.GetCommand()[0], start.GetCommand()[1:]...)
	for key, value := range start.GetEnv() {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	if start.GetStdin() {
		if err := stream.Send(&purserv1.ExecResponse{StdinRoom: 1 << 20}); err != nil {
			return err
		}
		cmd.Stdin = execStdin(stream)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	exit := &purserv1.Exit{StartedAt: now()}
	if start.GetCommand()[0] == "unmade" {
		exit = &purserv1.Exit{Code: exitSignalled, Reason: "entering the container: no such device"}
	} else if err := cmd.Run(); cmd.ProcessState != nil {
		exit.Code = uint32(cmd.ProcessState.ExitCode())
	} else if err != nil {
		exit = &purserv1.Exit{Code: 127, Reason: err.Error()}
	}
	for name, data := range map[string][]byte{"stdout": out.Bytes(), "stderr": errs.Bytes()} {
		if err := stream.Send(&purserv1.ExecResponse{Stream: name, Data: data}); err != nil {
			return err
		}
	}
	return stream.Send(&purserv1.ExecResponse{Exit: exit})
}

// execOnTerminal says that it is ready, and lets a command that is detached from run
// on, unless it is called lost.
func execOnTerminal(stream *connect.BidiStream[purserv1.ExecRequest, purserv1.ExecResponse], command string) error {
	for _, m := range []*purserv1.ExecResponse{{StdinRoom: 1 << 20}, {Stream: "stdout", Data: []byte("ready")}} {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	for {
		m, err := stream.Receive()
		switch {
		case err != nil:
			return err
		case m.GetDetach() && command == "lost":
			return connect.NewError(connect.CodeUnavailable, errors.New("the node is gone"))
		case m.GetDetach():
			return nil
		}
	}
}

// execStdin is what a client sends, up to its end.
func execStdin(stream *connect.BidiStream[purserv1.ExecRequest, purserv1.ExecResponse]) io.Reader {
	var all bytes.Buffer
	for {
		m, err := stream.Receive()
		if err != nil || m.GetCloseStdin() {
			return &all
		}
		all.Write(m.GetStdin())
	}
}
