package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/config"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
	"github.com/purserd/purser/runtime/logs"
)

// readLogs hands each piece of output to write: from the agent or, while none
// answers, from the log files of its node.
func (s *session) readLogs(ctx context.Context, request *purserv1.LogsRequest, write func(*purserv1.LogsResponse) error) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	err = copyLogs(ctx, api, request, write)
	if !client.Unreachable(err) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	store := openLogFiles(s.host)
	if store == nil {
		return err
	}
	defer store.Close()
	fmt.Fprintf(s.err, "purser: %v; reading the log files instead\n", err)
	return readLogFiles(ctx, store, request, write)
}

// openLogFiles opens the logs of the node that a socket is of; nil when they are not
// on this machine.
func openLogFiles(host string) *logs.Store {
	socket, local := strings.CutPrefix(host, "unix://")
	if !local {
		return nil
	}
	store, err := logs.Existing(config.LogLink(socket))
	if err != nil {
		return nil
	}
	return store
}

// instanceLog is the log of one instance.
type instanceLog struct {
	instance string
	logs.About
}

func readLogFiles(ctx context.Context, store *logs.Store, request *purserv1.LogsRequest, write func(*purserv1.LogsResponse) error) error {
	if request.GetApp() != "" && request.GetFollow() {
		return errors.New("without an agent the log files of a whole app can be read, but not followed: leave out -f, or follow one function with purser logs -f")
	}
	found, err := logsOf(store, request)
	if err != nil {
		return err
	}
	var read []iter.Seq2[logs.Entry, error]
	for _, l := range found {
		read = append(read, store.Read(ctx, l.instance, logs.OptionsOf(request.GetSince(), request.Tail, request.GetFollow())))
	}
	for e, err := range logs.Merge(read...) {
		if err != nil {
			return err
		}
		if err := write(&purserv1.LogsResponse{
			Id: found[e.Log].Workload, Stream: string(e.Stream), Time: timestamppb.New(e.Time), Data: e.Data,
		}); err != nil {
			return err
		}
	}
	return nil
}

// logsOf finds the logs of the instances that are meant, one for each workload.
func logsOf(store *logs.Store, request *purserv1.LogsRequest) ([]instanceLog, error) {
	names, err := store.Instances()
	if err != nil {
		return nil, err
	}
	byWorkload := map[string][]instanceLog{}
	for _, name := range names {
		about, err := store.About(name)
		if err != nil || about.Environment != cmp.Or(request.GetEnvironment(), "dev") {
			continue
		}
		if about.Workload == request.GetId() || request.GetApp() != "" && about.App == request.GetApp() {
			byWorkload[about.Workload] = append(byWorkload[about.Workload], instanceLog{name, about})
		}
	}
	which := 1
	if request.GetPrevious() {
		which = 2
	}
	var found []instanceLog
	for _, all := range byWorkload {
		slices.SortFunc(all, func(x, y instanceLog) int { return x.Created.Compare(y.Created) })
		if len(all) >= which {
			found = append(found, all[len(all)-which])
		}
	}
	slices.SortFunc(found, func(x, y instanceLog) int { return strings.Compare(x.Workload, y.Workload) })
	if len(byWorkload) == 0 {
		return nil, fmt.Errorf("there are no log files of %s in environment %s",
			cmp.Or(request.GetId(), "app "+request.GetApp()), cmp.Or(request.GetEnvironment(), "dev"))
	}
	return found, nil
}
