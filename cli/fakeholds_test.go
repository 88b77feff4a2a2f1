package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// A version with the key BAD fails at once, and is quarantined. fakeReason is why the fake node quarantines.
const fakeReason = "shop/web failed twice: exited with status 1"

// note is what the fake node says of versions that it does not give out.
func (s *fakeSecret) note() string {
	switch {
	case s.held != 0:
		return fmt.Sprintf("held from version %d on", s.held)
	case s.failed != 0:
		return fmt.Sprintf("version %d is quarantined", s.failed)
	}
	return ""
}

// describe adds what is held and has failed.
func (s *fakeSecret) describe(response *purserv1.DescribeResponse) {
	for _, v := range response.GetVersions() {
		switch {
		case v.GetVersion() == s.failed:
			v.State, v.Reason = "quarantined", fakeReason
		case s.held != 0 && v.GetVersion() >= s.held:
			v.State = "held"
		}
	}
	if s.failed == 0 {
		return
	}
	response.Users = []*purserv1.SecretUser{
		{Workload: "shop/api", Version: 1, State: "current"},
		{Workload: "shop/web", Instance: "i1", Version: s.failed - 1, State: "held", Reason: "version 2 is quarantined"},
		{Workload: "shop/new", Instance: "i2", State: "waiting"},
	}
}

func (f fakeSecrets) Hold(_ context.Context, r *connect.Request[purserv1.HoldRequest]) (*connect.Response[purserv1.HoldResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	secret, err := f.named(r.Msg.GetEnvironment(), r.Msg.GetName())
	if err != nil {
		return nil, err
	}
	was, from := secret.held, cmp.Or(r.Msg.GetFrom(), uint32(len(secret.versions))+1)
	if secret.held = from; was != 0 {
		secret.held = min(was, from)
	}
	return connect.NewResponse(&purserv1.HoldResponse{From: secret.held, WasFrom: was}), nil
}

func (f fakeSecrets) Release(_ context.Context, r *connect.Request[purserv1.ReleaseRequest]) (*connect.Response[purserv1.ReleaseResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	secret, err := f.named(r.Msg.GetEnvironment(), r.Msg.GetName())
	if err != nil {
		return nil, err
	}
	response := &purserv1.ReleaseResponse{Version: uint32(len(secret.versions)), WasFrom: secret.held}
	if secret.held = 0; secret.failed != 0 {
		response.Version, response.Withheld = secret.failed-1, secret.note()
	}
	return connect.NewResponse(response), nil
}

func (f fakeSecrets) Retry(_ context.Context, r *connect.Request[purserv1.RetryRequest]) (*connect.Response[purserv1.RetryResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	secret, err := f.named(r.Msg.GetEnvironment(), r.Msg.GetName())
	if err != nil {
		return nil, err
	}
	response := &purserv1.RetryResponse{Version: uint32(len(secret.versions))}
	if secret.failed != 0 {
		response.Versions, response.Freed = []uint32{secret.failed}, []uint32{secret.failed}
	}
	secret.failed = 0
	return connect.NewResponse(response), nil
}

// named finds a secret. The lock is held.
func (f fakeSecrets) named(environment, name string) (*fakeSecret, error) {
	secret := f.node.secrets[orDefault(environment)+":"+name]
	if secret == nil {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no secret "+name+" in environment "+orDefault(environment)))
	}
	return secret, nil
}

func (n *fakeNode) refuseQuarantined(spec *purserv1.LaunchSpec, force bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ref := range spec.GetSecrets() {
		secret := n.secrets[launchspec.Environment(spec)+":"+ref.GetName()]
		if version := ref.GetVersion(); version != 0 && !force && secret != nil && version == secret.failed {
			return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("version %d of secret %s is quarantined: %s", version, ref.GetName(), fakeReason))
		}
	}
	return nil
}

// rotation is how a workload stands to the newest versions. The lock is held.
func (j *fakeJob) rotation() *purserv1.RotationStatus {
	r := &purserv1.RotationStatus{State: "current"}
	for _, pin := range j.pins {
		secret := j.node.secrets[j.environment+":"+pin.GetSecret()]
		if secret == nil || pin.GetVersion() == uint32(len(secret.versions)) {
			continue
		}
		r.State, r.Pins = "waiting", append(r.Pins, &purserv1.Pin{Secret: pin.GetSecret(), Version: uint32(len(secret.versions))})
		if secret.failed != 0 {
			r.State, r.Reason, r.Pins = "held", fmt.Sprintf("version %d of %s is quarantined: %s", secret.failed, pin.GetSecret(), fakeReason), nil
		}
	}
	return r
}
