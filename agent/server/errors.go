package server

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/purserd/purser/agent"
	"github.com/purserd/purser/api/codec"
	"github.com/purserd/purser/api/launchspec"
)

var codes = map[agent.Reason]connect.Code{
	agent.Invalid:      connect.CodeInvalidArgument,
	agent.NotFound:     connect.CodeNotFound,
	agent.Precondition: connect.CodeFailedPrecondition,
	agent.Later:        connect.CodeUnavailable,
	agent.TooOld:       connect.CodeOutOfRange,
	agent.NoRoom:       connect.CodeResourceExhausted,
}

// coded gives an error of package agent its code.
func coded(err error) error {
	var refusal *agent.Refusal
	var already *connect.Error
	var problems launchspec.Problems
	switch {
	case err == nil:
		return nil
	case errors.As(err, &already):
		return err
	case errors.As(err, &problems):
		return codec.Refuse(problems)
	case errors.As(err, &refusal):
		return refused(refusal.Reason, err)
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	default:
		return connect.NewError(connect.CodeInternal, err)
	}
}

// refused says in a detail of the error what would do away with it, if a client
// can see to that.
func refused(reason agent.Reason, err error) error {
	coded := connect.NewError(codes[reason], err)
	if ref, ok := agent.PullableImage(err); ok {
		codec.AddAbsentImage(coded, ref)
	}
	return coded
}

// respond makes a response, or an error with its code.
func respond[T any](m *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(m), nil
}
