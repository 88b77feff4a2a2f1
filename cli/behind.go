package cli

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// tellBehind says which workloads are on another version of a secret than its newest:
// which may move by themselves, and which wait for a restart. What cannot be found out
// is not said.
func (s *session) tellBehind(ctx context.Context, api *client.Client, secret string, newest uint32) {
	if s.output != "table" {
		return
	}
	list, err := api.Workloads.List(ctx, connect.NewRequest(&purserv1.ListRequest{Environment: s.environment}))
	if err != nil {
		return
	}
	var moving, ids, on []string
	for _, w := range list.Msg.GetWorkloads() {
		version, pinned := pinOf(w, secret)
		ref := refTo(w.GetSpec(), secret)
		switch {
		case !pinned || version == newest || ref.GetVersion() != 0 || launchspec.IsJob(w.GetSpec()):
		case launchspec.Manual(w.GetSpec()) || launchspec.OnChange(ref) == launchspec.OnChangeIgnore:
			ids, on = append(ids, w.GetId()), append(on, w.GetId()+" "+standsOn(version))
		default:
			moving = append(moving, w.GetId())
		}
	}
	if len(moving) > 0 {
		fmt.Fprintf(s.out, "used by %s; who moves to it, and when: purser secret show -E %s %s\n", few(moving), s.environment, secret)
	}
	s.tellStaying(ids, on)
}

// tellStaying says of workloads that only a restart moves what they are on.
func (s *session) tellStaying(ids, on []string) {
	if len(ids) == 0 {
		return
	}
	them := "it"
	if len(ids) > 1 {
		them = "them"
	}
	fmt.Fprintf(s.out, "%s; to move %s: purser restart --secrets -E %s %s\n", few(on), them, s.environment, strings.Join(ids[:min(len(ids), mostNamed)], " "))
}

func standsOn(version uint32) string {
	if version == 0 {
		return "runs without it"
	}
	return fmt.Sprintf("runs on version %d", version)
}

// pinOf is the version of a secret that a workload is pinned to.
func pinOf(w *purserv1.Workload, secret string) (version uint32, pinned bool) {
	for _, pin := range w.GetPins() {
		if pin.GetSecret() == secret {
			return pin.GetVersion(), true
		}
	}
	return 0, false
}

// refTo is a spec's reference to a secret; nil when it has none.
func refTo(spec *purserv1.LaunchSpec, secret string) *purserv1.SecretRef {
	for _, ref := range spec.GetSecrets() {
		if ref.GetName() == secret {
			return ref
		}
	}
	return nil
}

// newestVersions are those of an environment's secrets; nil when they are not to be
// had.
func newestVersions(ctx context.Context, api *client.Client, environment string) map[string]uint32 {
	list, err := api.Secrets.List(ctx, connect.NewRequest(&purserv1.ListSecretsRequest{Environment: environment}))
	if err != nil {
		return nil
	}
	newest := map[string]uint32{}
	for _, secret := range list.Msg.GetSecrets() {
		newest[secret.GetName()] = secret.GetVersion()
	}
	return newest
}
