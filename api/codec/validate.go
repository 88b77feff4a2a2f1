package codec

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Validate makes a server check every message that it receives, streamed ones
// too, before a handler sees it.
func Validate() connect.Interceptor {
	// Rules are compiled when they are first needed, which takes milliseconds
	// of which a launch has few: better here.
	_ = launchspec.Check(&purserv1.LaunchRequest{Spec: &purserv1.LaunchSpec{}})
	return validator{}
}

// Check is what [Validate] does with one message: it returns nil or an error
// with the code invalid_argument, the problems in words, and a
// google.rpc.BadRequest detail with one violation for each of them.
func Check(m proto.Message) error {
	err := launchspec.Check(m)
	var problems launchspec.Problems
	if err == nil || !errors.As(err, &problems) {
		return err
	}
	return Refuse(problems)
}

// Refuse is the error with which a request is refused that has these problems.
func Refuse(problems launchspec.Problems) *connect.Error {
	refusal := connect.NewError(connect.CodeInvalidArgument, errors.New(sentence(problems)))
	if detail, err := connect.NewErrorDetail(badRequest(problems)); err == nil {
		refusal.AddDetail(detail)
	}
	return refusal
}

// sentence puts all problems in one line: a message with line feeds is mangled
// in gRPC's header and in logs.
func sentence(problems launchspec.Problems) string {
	return strings.Join(strings.Split(problems.Error(), "\n"), "; ")
}

func badRequest(problems launchspec.Problems) *errdetails.BadRequest {
	b := &errdetails.BadRequest{}
	for _, p := range problems {
		b.FieldViolations = append(b.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field:       p.Field,
			Reason:      reason(p.Rule),
			Description: p.Message,
		})
	}
	return b
}

// reason writes a rule as google.rpc wants reasons: string.in is STRING_IN.
func reason(rule string) string {
	return strings.ToUpper(strings.ReplaceAll(rule, ".", "_"))
}

type validator struct{}

func (validator) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if !req.Spec().IsClient {
			if err := checkAny(req.Any()); err != nil {
				return nil, err
			}
		}
		return next(ctx, req)
	}
}

func (validator) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (validator) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return next(ctx, checkedConn{conn})
	}
}

// checkedConn checks what a stream receives.
type checkedConn struct{ connect.StreamingHandlerConn }

func (c checkedConn) Receive(m any) error {
	if err := c.StreamingHandlerConn.Receive(m); err != nil {
		return err
	}
	return checkAny(m)
}

// checkAny lets pass what is no protobuf message: other services on the same
// server may have codecs of their own.
func checkAny(v any) error {
	if m, ok := v.(proto.Message); ok {
		return Check(m)
	}
	return nil
}
