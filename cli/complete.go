package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// completionTimeout is how long a shell waits for names before it goes on
// without.
const completionTimeout = time.Second

// completer proposes words for an argument or a flag.
type completer = cobra.CompletionFunc

// complete attaches a completer to a flag that the command has.
func complete(cmd *cobra.Command, flag string, words completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, words); err != nil {
		panic(err) // the flag's name is mistyped in this program
	}
}

func fixed(words ...string) completer {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

// names makes a completer of a call that lists names. An unreachable node
// completes nothing and says nothing.
func (s *session) names(list func(context.Context, *client.Client) ([]string, error)) completer {
	return func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		s.settleHost()
		api, err := s.dial()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		found, err := list(ctx, api)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// first proposes words for the first argument alone.
func first(words completer) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words(cmd, args, prefix)
	}
}

func (s *session) workloadNames(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return s.names(func(ctx context.Context, api *client.Client) ([]string, error) {
		list, err := api.Workloads.List(ctx, connect.NewRequest(&purserv1.ListRequest{Environment: s.environment}))
		if err != nil {
			return nil, err
		}
		return pluck(list.Msg.GetWorkloads(), (*purserv1.Workload).GetId), nil
	})(cmd, args, prefix)
}

func (s *session) appNames(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return s.names(func(ctx context.Context, api *client.Client) ([]string, error) {
		list, err := api.Apps.List(ctx, connect.NewRequest(&purserv1.ListAppsRequest{Environment: s.environment}))
		if err != nil {
			return nil, err
		}
		return pluck(list.Msg.GetApps(), (*purserv1.App).GetName), nil
	})(cmd, args, prefix)
}

func (s *session) secretNames(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return s.names(func(ctx context.Context, api *client.Client) ([]string, error) {
		list, err := api.Secrets.List(ctx, connect.NewRequest(&purserv1.ListSecretsRequest{Environment: s.environment}))
		if err != nil {
			return nil, err
		}
		return pluck(list.Msg.GetSecrets(), (*purserv1.Secret).GetName), nil
	})(cmd, args, prefix)
}

func (s *session) imageNames(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return s.names(func(ctx context.Context, api *client.Client) ([]string, error) {
		list, err := api.Images.List(ctx, connect.NewRequest(&purserv1.ListImagesRequest{}))
		if err != nil {
			return nil, err
		}
		return pluck(list.Msg.GetImages(), (*purserv1.NodeImage).GetRef), nil
	})(cmd, args, prefix)
}

func (s *session) volumeNames(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return s.names(func(ctx context.Context, api *client.Client) ([]string, error) {
		list, err := api.Volumes.List(ctx, connect.NewRequest(&purserv1.ListVolumesRequest{Environment: s.environment}))
		if err != nil {
			return nil, err
		}
		return pluck(list.Msg.GetVolumes(), (*purserv1.Volume).GetName), nil
	})(cmd, args, prefix)
}

func (s *session) environmentNames(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return s.names(func(ctx context.Context, api *client.Client) ([]string, error) {
		list, err := api.Node.ListEnvironments(ctx, connect.NewRequest(&purserv1.ListEnvironmentsRequest{}))
		if err != nil {
			return nil, err
		}
		return pluck(list.Msg.GetEnvironments(), (*purserv1.Environment).GetName), nil
	})(cmd, args, prefix)
}

// pluck takes one text of each item, such as its name.
func pluck[T any](items []T, name func(T) string) []string {
	var found []string
	for _, item := range items {
		found = append(found, name(item))
	}
	return found
}
