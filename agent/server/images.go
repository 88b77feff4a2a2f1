package server

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/purserd/purser/agent"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// images serves purser.v1.Images.
type images struct{ agent *agent.Agent }

func (s images) Import(ctx context.Context, stream *connect.ClientStream[purserv1.ImportRequest]) (*connect.Response[purserv1.ImportResponse], error) {
	if !stream.Receive() {
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("no archive was sent"))
	}
	first := stream.Msg()
	archive := &upload{stream: stream, rest: first.GetData()}
	found, err := s.agent.ImportImages(ctx, archive, first.GetName(), first.GetStem())
	return respond(&purserv1.ImportResponse{Images: found}, err)
}

// upload reads a stream of messages as the bytes that they carry.
type upload struct {
	stream *connect.ClientStream[purserv1.ImportRequest]
	rest   []byte
}

func (u *upload) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		if !u.stream.Receive() {
			if err := u.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		u.rest = u.stream.Msg().GetData()
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

func (s images) Pull(ctx context.Context, r *connect.Request[purserv1.PullRequest], stream *connect.ServerStream[purserv1.PullResponse]) error {
	image, err := s.agent.PullImage(ctx, r.Msg, func(l *purserv1.LayerProgress) error {
		return stream.Send(&purserv1.PullResponse{Layer: l})
	})
	if err != nil {
		return coded(err)
	}
	return stream.Send(&purserv1.PullResponse{Image: image})
}

func (s images) List(ctx context.Context, _ *connect.Request[purserv1.ListImagesRequest]) (*connect.Response[purserv1.ListImagesResponse], error) {
	found, err := s.agent.Images(ctx)
	return respond(&purserv1.ListImagesResponse{Images: found}, err)
}

func (s images) Remove(ctx context.Context, r *connect.Request[purserv1.RemoveImageRequest]) (*connect.Response[purserv1.RemoveImageResponse], error) {
	err := s.agent.RemoveImage(ctx, r.Msg.GetRef())
	return respond(&purserv1.RemoveImageResponse{}, err)
}
