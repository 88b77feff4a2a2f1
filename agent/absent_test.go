package agent

import (
	"errors"
	"log/slog"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

// with is an agent that keeps workloads, given as environment, app and function.
func with(names ...[3]string) *Agent {
	a := &Agent{log: slog.New(slog.DiscardHandler), workloads: map[string]*workload{}}
	for _, n := range names {
		r := &statev1.Workload{
			Environment: n[0], Id: n[1] + "/" + n[2], Goal: string(supervise.Run),
			Spec: &purserv1.LaunchSpec{App: proto.String(n[1]), Function: proto.String(n[2])},
		}
		w := newWorkload(a, r, supervise.Status{})
		a.workloads[w.key] = w
	}
	return a
}

func TestAbsentWorkload(t *testing.T) {
	few := with([3]string{"dev", "shop", "cart"}, [3]string{"dev", "shop", "pay"}, [3]string{"prod", "shop", "web"}, [3]string{"qa", "shop", "web"})
	many := with([3]string{"dev", "a", "1"}, [3]string{"dev", "a", "2"}, [3]string{"dev", "a", "3"}, [3]string{"dev", "a", "4"}, [3]string{"dev", "a", "5"}, [3]string{"dev", "a", "6"})
	for _, tc := range []struct {
		agent           *Agent
		environment, id string
		want            string
	}{
		{few, "dev", "shop/web", "no workload shop/web in environment dev; it is in prod, qa: give -E prod"},
		{few, "", "shop", "no workload shop in environment dev; shop is an app: for all of it there are purser app stop, rm and logs; its IDs are shop/cart, shop/pay"},
		{few, "dev", "cart", "no workload cart in environment dev; there is shop/cart"},
		{few, "prod", "nothing", "no workload nothing in environment prod; an ID is APP/FUNCTION, and there is shop/web"},
		{few, "none", "nothing", "no workload nothing in environment none; an ID is APP/FUNCTION"},
		{few, "dev", "shop/none", "no workload shop/none in environment dev"},
		{many, "dev", "a", "no workload a in environment dev; a is an app: for all of it there are purser app stop, rm and logs; its IDs are a/1, a/2, a/3, a/4, a/5…"},
	} {
		_, err := tc.agent.get(tc.environment, tc.id)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != NotFound || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
}

func TestMissingImage(t *testing.T) {
	for _, tc := range []struct {
		ref  string
		has  []string
		want string
	}{
		{"localhost/a:1", nil, "image localhost/a:1 is not on this node: bring it with purser image import"},
		{"tools:1", []string{"localhost/mytools:1", "localhost/tools:1"},
			"image tools:1 (docker.io/library/tools:1) is not on this node: bring it with purser image import, or purser image pull tools:1; the node has localhost/tools:1"},
		{"localhost/tools", []string{"localhost/tools:1"}, "image localhost/tools (localhost/tools:latest) is not on this node: bring it with purser image import"},
	} {
		err := missingImage(tc.ref, tc.has)
		if !errors.Is(err, runtime.ErrImageNotFound) || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
}
