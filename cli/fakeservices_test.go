package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/purserd/purser/api/codec"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/purser/v1/purserv1connect"
)

type fakeSecret struct {
	versions []map[string][]byte
	held     uint32 // from this version on
	hurried  bool
	// failed is a version that is quarantined.
	failed uint32
}

func (s *fakeSecret) newest() map[string][]byte {
	if len(s.versions) == 0 {
		return nil
	}
	return s.versions[len(s.versions)-1]
}

func (s *fakeSecret) keys() []string { return slices.Sorted(maps.Keys(s.newest())) }

type fakeSecrets struct {
	purserv1connect.UnimplementedSecretsHandler
	node *fakeNode
}

func (f fakeSecrets) Put(_ context.Context, r *connect.Request[purserv1.PutRequest]) (*connect.Response[purserv1.PutResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	key := orDefault(r.Msg.GetEnvironment()) + ":" + r.Msg.GetName()
	secret, fresh := f.node.secrets[key], !f.node.has(orDefault(r.Msg.GetEnvironment()))
	if secret == nil {
		secret = &fakeSecret{}
		f.node.secrets[key] = secret
	}
	next := map[string][]byte{}
	if !r.Msg.GetReplace() {
		maps.Copy(next, secret.newest())
	}
	maps.Copy(next, r.Msg.GetData())
	for _, key := range r.Msg.GetRemove() {
		if _, there := next[key]; !there {
			return nil, refuseFields("remove", fmt.Sprintf("secret %s in environment dev has no key %q", r.Msg.GetName(), key))
		}
		delete(next, key)
	}
	changed := !maps.EqualFunc(next, secret.newest(), bytes.Equal)
	if changed {
		secret.versions = append(secret.versions, next)
	}
	secret.hurried = r.Msg.GetNow()
	if _, bad := next["BAD"]; bad && changed {
		secret.failed = uint32(len(secret.versions))
	}
	return connect.NewResponse(&purserv1.PutResponse{Version: uint32(len(secret.versions)), Changed: changed, Keys: secret.keys(), Note: secret.note(), NewEnvironment: fresh}), nil
}

// has says whether an environment has a secret. The lock is held.
func (n *fakeNode) has(environment string) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(n.secrets)), func(key string) bool { return strings.HasPrefix(key, environment+":") })
}

// refuseFields is a refusal as the agent words it.
func refuseFields(field, description string) error {
	return codec.Refuse(launchspec.Problems{{Field: field, Rule: "secret.limits", Message: description}})
}

func (f fakeSecrets) List(_ context.Context, r *connect.Request[purserv1.ListSecretsRequest]) (*connect.Response[purserv1.ListSecretsResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	response := &purserv1.ListSecretsResponse{}
	for _, key := range slices.Sorted(maps.Keys(f.node.secrets)) {
		environment, name, _ := strings.Cut(key, ":")
		if e := r.Msg.GetEnvironment(); e == "" || e == environment {
			response.Secrets = append(response.Secrets, f.message(environment, name))
		}
	}
	return connect.NewResponse(response), nil
}

func (f fakeSecrets) message(environment, name string) *purserv1.Secret {
	secret := f.node.secrets[environment+":"+name]
	return &purserv1.Secret{Environment: environment, Name: name, Version: uint32(len(secret.versions)), Keys: secret.keys(), UpdatedAt: now(), Withheld: secret.note()}
}

func (f fakeSecrets) Describe(_ context.Context, r *connect.Request[purserv1.DescribeRequest]) (*connect.Response[purserv1.DescribeResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	environment := orDefault(r.Msg.GetEnvironment())
	secret := f.node.secrets[environment+":"+r.Msg.GetName()]
	if secret == nil {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no secret %s in environment %s", r.Msg.GetName(), environment))
	}
	response := &purserv1.DescribeResponse{Secret: f.message(environment, r.Msg.GetName())}
	for i := range slices.Backward(secret.versions) {
		response.Versions = append(response.Versions, &purserv1.SecretVersion{
			Version: uint32(i + 1), CreatedAt: now(), State: "old", Keys: slices.Sorted(maps.Keys(secret.versions[i])),
		})
	}
	response.Versions[0].State = "current"
	secret.describe(response)
	return connect.NewResponse(response), nil
}

func (f fakeSecrets) Rollback(_ context.Context, r *connect.Request[purserv1.RollbackRequest]) (*connect.Response[purserv1.RollbackResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	secret := f.node.secrets[orDefault(r.Msg.GetEnvironment())+":"+r.Msg.GetName()]
	from := int(r.Msg.GetVersion())
	if from == 0 {
		from = len(secret.versions) - 1
	}
	if uint32(from) == secret.failed && !r.Msg.GetForce() {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("version %d of secret %s is quarantined: %s", from, r.Msg.GetName(), fakeReason))
	}
	secret.hurried = r.Msg.GetNow()
	secret.versions = append(secret.versions, secret.versions[from-1])
	return connect.NewResponse(&purserv1.RollbackResponse{Version: uint32(len(secret.versions)), CopyOf: uint32(from)}), nil
}

func (f fakeSecrets) Delete(_ context.Context, r *connect.Request[purserv1.DeleteRequest]) (*connect.Response[purserv1.DeleteResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	delete(f.node.secrets, orDefault(r.Msg.GetEnvironment())+":"+r.Msg.GetName())
	response := &purserv1.DeleteResponse{Users: []string{"a/f", "a/g", "b/f", "b/g"}}
	if !r.Msg.GetDestroy() {
		response.Kept = []uint32{1, 2}
	}
	return connect.NewResponse(response), nil
}

type fakeApps struct {
	purserv1connect.UnimplementedAppsHandler
	node *fakeNode
}

func (f fakeApps) Deploy(_ context.Context, r *connect.Request[purserv1.DeployRequest]) (*connect.Response[purserv1.DeployResponse], error) {
	response := &purserv1.DeployResponse{Revision: 1}
	for _, spec := range r.Msg.GetSpecs() {
		response.Changes = append(response.Changes, &purserv1.Change{Id: launchspec.ID(spec), Action: "create", Spec: spec})
		if r.Msg.GetDryRun() {
			response.Revision = 0
			continue
		}
		if err := f.node.refuseQuarantined(spec, r.Msg.GetForce()); err != nil {
			return nil, err
		}
		if _, err := f.node.launch(spec); err != nil {
			return nil, err
		}
	}
	if r.Msg.GetPrune() {
		response.Changes = append(response.Changes, f.node.unnamed(r.Msg)...)
	}
	return connect.NewResponse(response), nil
}

// unnamed are the functions of an app that a deploy does not name. They stay here.
func (n *fakeNode) unnamed(r *purserv1.DeployRequest) []*purserv1.Change {
	n.mu.Lock()
	defer n.mu.Unlock()
	var changes []*purserv1.Change
	for _, job := range n.jobs {
		named := slices.ContainsFunc(r.GetSpecs(), func(s *purserv1.LaunchSpec) bool { return launchspec.ID(s) == job.id })
		if job.environment == r.GetEnvironment() && job.spec.GetApp() == r.GetApp() && !named {
			changes = append(changes, &purserv1.Change{Id: job.id, Action: "remove", Spec: job.spec})
		}
	}
	return changes
}

func (f fakeApps) List(_ context.Context, _ *connect.Request[purserv1.ListAppsRequest]) (*connect.Response[purserv1.ListAppsResponse], error) {
	return connect.NewResponse(&purserv1.ListAppsResponse{Apps: []*purserv1.App{
		{Environment: "dev", Name: "shop", Revision: 3, Functions: 2, Healthy: 1, DeployedAt: now()},
	}}), nil
}

func (f fakeApps) Remove(_ context.Context, r *connect.Request[purserv1.RemoveAppRequest]) (*connect.Response[purserv1.RemoveAppResponse], error) {
	if !r.Msg.GetForce() {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("app shop has functions"))
	}
	return connect.NewResponse(&purserv1.RemoveAppResponse{}), nil
}

func (f fakeApps) History(_ context.Context, r *connect.Request[purserv1.HistoryRequest]) (*connect.Response[purserv1.HistoryResponse], error) {
	function := func(name string) *purserv1.AppFunction {
		return &purserv1.AppFunction{
			Spec: &purserv1.LaunchSpec{Function: &name},
			Pins: []*purserv1.Pin{{Secret: "tls", Version: 2}, {Secret: "extra"}},
		}
	}
	return connect.NewResponse(&purserv1.HistoryResponse{Revisions: []*purserv1.AppRevision{
		{Revision: 2, Cause: "rollback to 1", DeployedAt: now(), Functions: []*purserv1.AppFunction{function("cart"), function("pay")}},
	}}), nil
}

func (f fakeApps) Rollback(_ context.Context, r *connect.Request[purserv1.RollbackAppRequest]) (*connect.Response[purserv1.RollbackAppResponse], error) {
	return connect.NewResponse(&purserv1.RollbackAppResponse{
		Revision: 4, Changes: []*purserv1.Change{{Id: r.Msg.GetApp() + "/cart", Action: "update"}},
	}), nil
}

func (f fakeApps) Stop(_ context.Context, r *connect.Request[purserv1.StopAppRequest]) (*connect.Response[purserv1.StopAppResponse], error) {
	return connect.NewResponse(&purserv1.StopAppResponse{Workloads: []*purserv1.Workload{{Id: r.Msg.GetApp() + "/cart"}}}), nil
}

type fakeImages struct {
	purserv1connect.UnimplementedImagesHandler
	node *fakeNode
}

// Import takes any tar for an image and puts the names of its files into the
// digest.
func (f fakeImages) Import(_ context.Context, stream *connect.ClientStream[purserv1.ImportRequest]) (*connect.Response[purserv1.ImportResponse], error) {
	var all bytes.Buffer
	name := ""
	for stream.Receive() {
		if m := stream.Msg(); m.GetName()+m.GetStem() != "" {
			if name = m.GetName(); name == "" {
				name = "localhost/" + m.GetStem() + ":latest"
			}
		}
		all.Write(stream.Msg().GetData())
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	var files []string
	size := uint64(all.Len())
	for archive := tar.NewReader(&all); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("not an archive of an image"))
		}
		files = append(files, header.Name)
	}
	image := &purserv1.NodeImage{Ref: name, Digest: strings.Join(files, "+"), Size: size}
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	f.node.images = append(f.node.images, image)
	return connect.NewResponse(&purserv1.ImportResponse{Images: []*purserv1.NodeImage{image}}), nil
}

func (f fakeImages) List(context.Context, *connect.Request[purserv1.ListImagesRequest]) (*connect.Response[purserv1.ListImagesResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	return connect.NewResponse(&purserv1.ListImagesResponse{Images: f.node.images}), nil
}

func (f fakeImages) Remove(_ context.Context, r *connect.Request[purserv1.RemoveImageRequest]) (*connect.Response[purserv1.RemoveImageResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	before := len(f.node.images)
	f.node.images = slices.DeleteFunc(f.node.images, func(i *purserv1.NodeImage) bool { return i.GetRef() == r.Msg.GetRef() })
	if len(f.node.images) == before {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no image "+r.Msg.GetRef()))
	}
	return connect.NewResponse(&purserv1.RemoveImageResponse{}), nil
}

type fakeInfo struct {
	purserv1connect.UnimplementedNodeHandler
	node *fakeNode
}

func (f fakeInfo) Get(context.Context, *connect.Request[purserv1.GetNodeRequest]) (*connect.Response[purserv1.GetNodeResponse], error) {
	return connect.NewResponse(&purserv1.GetNodeResponse{
		Name: "worker-1", Id: "n1", Version: "1.2.0", Commit: "abc", StartedAt: now(), MetricsAddress: "127.0.0.1:9755",
		Containerd: &purserv1.Containerd{Address: "/run/c.sock", Namespace: "purser", Error: "connection refused"},
		Runtimes:   []*purserv1.Runtime{{Name: "runc", Path: "/usr/sbin/runc", Default: true, Version: "runc version 1.1.5"}},
		Workloads:  map[string]uint32{"running": 2, "failed": 1, "stopped": 0},
		Capacity: &purserv1.Capacity{
			Total:      &purserv1.Amounts{Cpu: 2, Memory: 4 << 30, Pids: 32768},
			Reserve:    &purserv1.Amounts{Cpu: 0.5, Memory: 256 << 20, Pids: 1000},
			Overcommit: &purserv1.Factors{Cpu: 4, Memory: 1, Pids: 1},
			Requested:  &purserv1.Amounts{Cpu: 1.25, Memory: 4 << 30},
			Free:       &purserv1.Amounts{Cpu: 4.75, Memory: -256 << 20, Pids: 31768},
		},
		Drain: f.node.drain.state(),
	}), nil
}

func (f fakeInfo) ListEnvironments(context.Context, *connect.Request[purserv1.ListEnvironmentsRequest]) (*connect.Response[purserv1.ListEnvironmentsResponse], error) {
	return connect.NewResponse(&purserv1.ListEnvironmentsResponse{Environments: []*purserv1.Environment{
		{Name: "dev", Workloads: 1, Secrets: 2}, {Name: "prod", Secrets: 1},
	}}), nil
}

func (f fakeInfo) Events(ctx context.Context, r *connect.Request[purserv1.EventsRequest], stream *connect.ServerStream[purserv1.EventsResponse]) error {
	events := []*purserv1.Event{
		{Sequence: 1, Time: now(), Severity: "normal", Type: "Started", Environment: "dev", Subject: "shop/cart", Message: "started\x1b[2J\nby hand"},
		{Sequence: 2, Time: now(), Severity: "warning", Type: "BackingOff", Environment: "prod", Subject: "shop/pay", Message: "exit status 1"},
		{Sequence: 3, Time: now(), Severity: "normal", Type: "SecretRolledBack", Environment: "dev", Subject: "db", Message: "version 4"},
	}
	if r.Msg.GetAfter() > 100 {
		return connect.NewError(connect.CodeOutOfRange, errors.New("list again"))
	}
	for _, event := range events {
		if e := r.Msg.GetEnvironment(); (e != "" && e != event.GetEnvironment()) || event.GetSequence() <= r.Msg.GetAfter() {
			continue
		}
		if !slices.Contains([]string{"", event.GetSubject()}, r.Msg.GetSubject()) || !slices.Contains([]string{"", event.GetSeverity()}, r.Msg.GetSeverity()) {
			continue
		}
		if err := stream.Send(&purserv1.EventsResponse{Event: event}); err != nil {
			return err
		}
	}
	if r.Msg.GetFollow() {
		<-ctx.Done()
	}
	return nil
}
