package agent

import "fmt"

// Reason says what kind of mistake a refused request made.
type Reason int

// The reasons, each a code of the API.
const (
	Invalid      Reason = iota + 1 // the request can never be right
	NotFound                       // what it names is not there
	Precondition                   // it is right, but not in the present state
	Later                          // it may be right soon: try again
	TooOld                         // it asks for what is no longer kept
	NoRoom                         // the node has no room for it
)

// String is the reason as the API's codes have it.
func (r Reason) String() string {
	switch r {
	case Invalid:
		return "invalid_argument"
	case NotFound:
		return "not_found"
	case Precondition:
		return "failed_precondition"
	case Later:
		return "unavailable"
	case NoRoom:
		return "resource_exhausted"
	default:
		return "out_of_range"
	}
}

// Refusal is a request that was not carried out and changed nothing.
type Refusal struct {
	Reason Reason
	Err    error
}

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// refuse makes a refusal with a text made as by fmt.Errorf.
func refuse(reason Reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Err: fmt.Errorf(format, args...)}
}
