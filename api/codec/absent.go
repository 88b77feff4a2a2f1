package codec

import (
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// imageAbsent is the type of the violation that a launch is refused for when its
// image is not on the node.
const imageAbsent = "IMAGE_ABSENT"

// AddAbsentImage says in a detail of an error that an image is all that is missing.
func AddAbsentImage(err *connect.Error, ref string) {
	absent := &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: imageAbsent, Subject: ref}}}
	if detail, failed := connect.NewErrorDetail(absent); failed == nil {
		err.AddDetail(detail)
	}
}

// AbsentImage returns the image that an error says is all that is missing.
func AbsentImage(err error) (ref string, ok bool) {
	var remote *connect.Error
	if !errors.As(err, &remote) {
		return "", false
	}
	for _, detail := range remote.Details() {
		value, unknown := detail.Value()
		if unknown != nil {
			continue
		}
		if p, is := value.(*errdetails.PreconditionFailure); is && len(p.GetViolations()) == 1 && p.GetViolations()[0].GetType() == imageAbsent {
			return p.GetViolations()[0].GetSubject(), true
		}
	}
	return "", false
}
