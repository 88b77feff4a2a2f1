package cli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newVolume(s *session) *cobra.Command {
	return group(&cobra.Command{
		Use:   "volume",
		Short: "Make, list and remove volumes: directories that outlast containers",
		Long: `Make, list and remove volumes: directories that the node keeps for what is to
outlast containers. A launch spec mounts one of its environment by name:

  mounts: [{type: volume, source: NAME, target: /data}]`,
		Example: `  purser volume create data --user 1000:1000
  purser volume list`,
	}, newVolumeCreate(s), newVolumeList(s), newVolumeRemove(s))
}

func newVolumeCreate(s *session) *cobra.Command {
	var user, mode string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an empty volume",
		Long: `Make an empty volume. It belongs to root and everybody may read it (0755), unless
--user and --mode say otherwise: a function that does not run as root needs a
volume of its own user to write to. One that is there already is left as it is,
which is an error only when it is not as the flags want it.`,
		Example: `  purser volume create data
  purser volume create -E prod uploads --user 1000:1000 --mode 0770`,
		Args:              takes(1, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &purserv1.CreateVolumeRequest{Environment: s.environment, Name: args[0]}
			if err := setOwner(request, user); err != nil {
				return misuse(cmd, err)
			}
			if mode != "" {
				request.Mode = proto.String(mode)
			}
			return rename(s.volumeCreate(cmd.Context(), request), volumeFlag)
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "owner, as numbers: `UID[:GID]`; the group has the user's number when it is not given")
	cmd.Flags().StringVar(&mode, "mode", "", "permissions in octal (default 0755)")
	return cmd
}

// setOwner reads --user. Names are an image's to know.
func setOwner(request *purserv1.CreateVolumeRequest, user string) error {
	if user == "" {
		return nil
	}
	first, second, both := strings.Cut(user, ":")
	if !both {
		second = first
	}
	uid, err := strconv.ParseUint(first, 10, 31)
	gid, err2 := strconv.ParseUint(second, 10, 31)
	if err != nil || err2 != nil {
		return fmt.Errorf("--user %s: must be UID or UID:GID, such as 1000:1000, numbers from 0 to %d: names mean something in an image only", user, math.MaxInt32)
	}
	request.Uid, request.Gid = proto.Uint32(uint32(uid)), proto.Uint32(uint32(gid))
	return nil
}

// volumeFlag names what the user gave a field of the request by.
func volumeFlag(field string) string {
	switch field {
	case "name":
		return "NAME"
	case "mode":
		return "--mode"
	}
	return field
}

func (s *session) volumeCreate(ctx context.Context, request *purserv1.CreateVolumeRequest) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Volumes.Create(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	done := "made"
	if !response.Msg.GetCreated() {
		done = "is there already"
	}
	v := response.Msg.GetVolume()
	return s.say(response.Msg, "volume %s: %s, owned by %d:%d, mode %s", v.GetName(), done, v.GetUid(), v.GetGid(), v.GetMode())
}

func newVolumeList(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the volumes of an environment, with their sizes and users",
		Long: `List the volumes of an environment: what each takes on the disk, which workloads
use it, its age. Measuring is given up after three seconds; a size that was
not measured to its end is shown with a > before it.`,
		Example: `  purser volume list
  purser volume list -A -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return s.volumeList(cmd.Context()) },
	}
	s.everywhereFlag(cmd)
	return cmd
}

func (s *session) volumeList(ctx context.Context) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Volumes.List(ctx, connect.NewRequest(&purserv1.ListVolumesRequest{Environment: s.scope()}))
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() {
		t := s.newVolumeTable()
		for _, v := range response.Msg.GetVolumes() {
			t.row(v.GetName(), v.GetEnvironment(), sizeText(v), fmt.Sprintf("%d:%d", v.GetUid(), v.GetGid()), v.GetMode(),
				orDash(strings.Join(v.GetUsers(), ", ")), age(v.GetCreatedAt(), time.Now()))
		}
		t.flush()
	})
}

func (s *session) newVolumeTable() *table {
	t := newTable(s.out, "NAME", "ENVIRONMENT", "SIZE", "OWNER", "MODE", "USED BY", "AGE")
	t.whole = 2
	t.spare = []string{"MODE", "OWNER", "AGE", "USED BY"}
	return t
}

func sizeText(v *purserv1.Volume) string {
	if v.GetSizePartial() {
		return ">" + bytesText(v.GetSize())
	}
	return bytesText(v.GetSize())
}

func newVolumeRemove(s *session) *cobra.Command {
	return &cobra.Command{
		Use:        "rm NAME",
		SuggestFor: []string{"delete"},
		Aliases:    []string{"remove", "delete"},
		Short:      "Remove a volume and all that is in it",
		Long: `Remove a volume and all that is in it, for good. One that a workload uses, be it
stopped, is left alone: remove the workload first.`,
		Example: `  purser volume rm data
  purser volume rm -E prod uploads`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.volumeNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return s.volumeRemove(cmd.Context(), args[0]) },
	}
}

func (s *session) volumeRemove(ctx context.Context, name string) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Volumes.Remove(ctx, connect.NewRequest(&purserv1.RemoveVolumeRequest{Environment: s.environment, Name: name}))
	if err != nil {
		return err
	}
	return s.say(response.Msg, "volume %s: removed", name)
}
