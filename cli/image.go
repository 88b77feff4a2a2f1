package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// importChunk is how much of an archive is sent at once.
const importChunk = 256 << 10

func newImage(s *session) *cobra.Command {
	return group(&cobra.Command{
		Use:   "image",
		Short: "Import, pull, list and remove the node's images",
		Example: `  purser image import rag.tar
  purser image pull registry.example/rag:1.4
  purser image list`,
	}, newImageImport(s), newImagePull(s), newImageList(s), newImageRm(s))
}

func newImageImport(s *session) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "import TAR|OCI-DIR",
		Short: "Import an image from an archive or an OCI layout",
		Long: `Import an image from a tar archive (of docker save, or of an OCI layout,
compressed with gzip or not), or from the directory of an OCI layout. - reads an
archive from standard input. An archive without a full reference is named
localhost/<file's stem>:<name in the archive>; --name overrides.`,
		Example: `  purser image import rag.tar
  purser image import ./oci-layout --name registry.example/rag:1.4
  docker save tools:1 | purser image import - --name localhost/tools:1`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return s.imageImport(cmd.Context(), args[0], name) },
	}
	cmd.Flags().StringVar(&name, "name", "", "`REF` to give the image, instead of the archive's")
	return cmd
}

func (s *session) imageImport(ctx context.Context, path, name string) error {
	archive, err := s.openArchive(path)
	if err != nil {
		return err
	}
	defer archive.Close()
	api, err := s.dial()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // also tells the agent that half an archive is all it gets
	stream := api.Images.Import(ctx)
	first := &purserv1.ImportRequest{Name: name, Stem: archive.stem}
	bar := newProgress(s.err, archive.size, time.Now)
	readErr := sendArchive(stream, first, io.TeeReader(archive, bar))
	bar.finish()
	if readErr != nil {
		return fmt.Errorf("reading %s: %w", path, readErr)
	}
	response, err := stream.CloseAndReceive()
	if err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() { s.importedLines(response.Msg) })
}

func (s *session) importedLines(response *purserv1.ImportResponse) {
	for _, image := range response.GetImages() {
		fmt.Fprintf(s.out, "%s (%s)\n", image.GetRef(), image.GetDigest())
	}
}

// sendArchive sends all of it. When the agent ends the stream early, its
// reason comes with the response.
func sendArchive(stream *connect.ClientStreamForClient[purserv1.ImportRequest, purserv1.ImportResponse], request *purserv1.ImportRequest, archive io.Reader) error {
	buffer := make([]byte, importChunk)
	for {
		n, err := io.ReadFull(archive, buffer)
		request.Data = buffer[:n]
		if sendErr := stream.Send(request); sendErr != nil {
			return nil
		}
		request = &purserv1.ImportRequest{}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func newImageList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the node's images",
		Example: `  purser image list
  purser image list -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return s.imageList(cmd.Context()) },
	}
}

func (s *session) imageList(ctx context.Context) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Images.List(ctx, connect.NewRequest(&purserv1.ListImagesRequest{}))
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() {
		t := s.newImageTable()
		for _, image := range response.Msg.GetImages() {
			t.row(image.GetRef(), bytesText(image.GetSize()), image.GetDigest())
		}
		t.flush()
	})
}

func (s *session) newImageTable() *table {
	t := newTable(s.out, "IMAGE", "SIZE", "DIGEST")
	t.spare = []string{"DIGEST", "SIZE"}
	return t
}

func newImageRm(s *session) *cobra.Command {
	return &cobra.Command{
		Use:        "rm REF…",
		SuggestFor: []string{"delete"},
		Aliases:    []string{"remove"},
		Short:      "Remove images from the node",
		Example: `  purser image rm localhost/rag:latest
  purser image rm localhost/rag:1.3 localhost/rag:1.4`,
		Args:              takes(1, many),
		ValidArgsFunction: s.imageNames,
		RunE: func(cmd *cobra.Command, refs []string) error {
			return s.each(refs, "removed", func(api *client.Client, ref string) (proto.Message, error) {
				return message(api.Images.Remove(cmd.Context(), connect.NewRequest(&purserv1.RemoveImageRequest{Ref: ref})))
			})
		},
	}
}
