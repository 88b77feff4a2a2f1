package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// logFlags say which part of the logs is wanted.
type logFlags struct {
	follow, previous bool
	since            string
	tail             int
}

func (f *logFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on until it has ended")
	flags.StringVar(&f.since, "since", "", "only what was written since: a duration (10m) or a time (2006-01-02T15:04:05Z)")
	flags.IntVarP(&f.tail, "tail", "n", -1, "only the last `LINES` of each instance; all when negative")
	flags.BoolVar(&f.previous, "previous", false, "of the instance before the present one")
}

func (f *logFlags) request(now time.Time) (*purserv1.LogsRequest, error) {
	since, err := parseSince(f.since, now)
	if err != nil {
		return nil, err
	}
	r := &purserv1.LogsRequest{Follow: f.follow, Previous: f.previous, Since: since}
	if f.tail > math.MaxUint32 {
		return nil, fmt.Errorf("--tail %d: too many lines", f.tail)
	}
	if f.tail >= 0 {
		r.Tail = proto.Uint32(uint32(f.tail))
	}
	return r, nil
}

func parseSince(text string, now time.Time) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return timestamppb.New(now.Add(-d)), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return nil, fmt.Errorf("--since %s: must be a duration such as 10m, or a time such as %s", text, now.UTC().Format(time.RFC3339))
	}
	return timestamppb.New(at), nil
}

func newLogs(s *session) *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Print what a workload has written",
		Long: `Print what a workload has written, byte by byte: its standard output to standard
output, its standard error to standard error. While no agent answers on a socket
of this machine, the log files themselves are read.`,
		Example: `  purser logs rag-qna/answer-question
  purser logs -f --tail 20 rag-qna/answer-question
  purser logs --since 10m --previous rag-qna/answer-question`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.workloadNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := f.request(time.Now())
			if err != nil {
				return misuse(cmd, err)
			}
			request.Environment, request.Id = s.environment, args[0]
			return s.logs(cmd.Context(), request, s.out, s.err)
		},
	}
	f.add(cmd)
	return cmd
}

// logs copies what the node sends to out and err.
func (s *session) logs(ctx context.Context, request *purserv1.LogsRequest, out, err io.Writer) error {
	return s.readLogs(ctx, request, func(entry *purserv1.LogsResponse) error {
		return writeStream(entry.GetStream(), entry.GetData(), out, err)
	})
}

// copyLogs hands each piece of output to write, until there is no more.
func copyLogs(ctx context.Context, api *client.Client, request *purserv1.LogsRequest, write func(*purserv1.LogsResponse) error) error {
	stream, err := api.Workloads.Logs(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if err := write(stream.Msg()); err != nil {
			return err
		}
	}
	return stream.Err()
}

// writeStream writes data to the stream that it was written to.
func writeStream(name string, data []byte, out, err io.Writer) error {
	to := out
	if name == "stderr" {
		to = err
	}
	if _, e := to.Write(data); e != nil {
		return &outputError{e}
	}
	return nil
}

// outputError tells that purser's own output cannot be written any more: the
// reader of a pipe is gone, a disk is full.
type outputError struct{ err error }

func (o *outputError) Error() string { return "writing output: " + o.err.Error() }
func (o *outputError) Unwrap() error { return o.err }
