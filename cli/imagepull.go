package cli

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

func newImagePull(s *session) *cobra.Command {
	var platform, policy, secret string
	cmd := &cobra.Command{
		Use:   "pull REF",
		Short: "Pull an image from its registry",
		Long: `Pull an image from its registry, by tag or digest. A pull that was cut goes on
from where it was. With --policy if_not_present an image that is on the node is
left as it is; otherwise its name stands afterwards for what the registry has now.

Credentials are those of --auth-secret, a secret with USERNAME and PASSWORD or
with DOCKERCONFIGJSON in the environment of -E; else those of docker on the node.
Mirrors and certificates are those of containerd's certs.d.`,
		Example: `  purser image pull registry.example/rag:1.4
  purser image pull registry.example/rag@sha256:6457d53fb065d6f250e1504b9bc42d5b6c65941d57532c072d929dd0628977d0
  purser image pull registry.example/rag:1.4 -E prod --auth-secret registry-secret
  purser image pull registry.example/rag:1.4 --platform linux/arm64`,
		Args:              takes(1, 1),
		ValidArgsFunction: s.imageNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &purserv1.PullRequest{Ref: args[0], Environment: s.environment}
			given := cmd.Flags().Changed
			setText(given("platform"), platform, &request.Platform)
			setText(given("policy"), policy, &request.Policy)
			setText(given("auth-secret"), secret, &request.AuthSecret)
			return rename(s.imagePull(cmd.Context(), request), pullFlag)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&platform, "platform", "", "`OS/ARCH` of the image, as linux/arm64 (default the node's)")
	flags.StringVar(&policy, "policy", launchspec.PullAlways, "always or if_not_present")
	flags.StringVar(&secret, "auth-secret", "", "`NAME` of a secret with the registry's credentials")
	complete(cmd, "policy", fixed(launchspec.PullAlways, launchspec.PullIfNotPresent))
	complete(cmd, "auth-secret", s.secretNames)
	return cmd
}

// pullFlag is the flag that sets a field of a pull.
func pullFlag(field string) string {
	switch field {
	case "platform", "policy":
		return "--" + field
	case "auth_secret":
		return "--auth-secret"
	}
	return field
}

func (s *session) imagePull(ctx context.Context, request *purserv1.PullRequest) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	image, err := s.pull(ctx, api, request)
	if err != nil {
		return err
	}
	return s.print(&purserv1.PullResponse{Image: image}, func() {
		fmt.Fprintf(s.out, "%s (%s)\n", image.GetRef(), image.GetDigest())
	})
}

// pull pulls an image and shows on stderr how far it has come.
func (s *session) pull(ctx context.Context, api *client.Client, request *purserv1.PullRequest) (*purserv1.NodeImage, error) {
	stream, err := api.Images.Pull(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	show := newLayers(s.err)
	defer show.finish()
	for stream.Receive() {
		if image := stream.Msg().GetImage(); image != nil {
			return image, nil
		}
		show.update(stream.Msg().GetLayer())
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("the agent ended the pull without an image")
}
