package launchspec

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Validate checks one spec as [Check] does.
func Validate(s *purserv1.LaunchSpec) error {
	return Check(s)
}

// Check holds any message of the API against the rules in its .proto, and the
// launch specs in it also against what those rules can't express: that a
// duration is positive, a signal known, a reference parses. It returns
// [Problems] without positions, all at once, or nil.
func Check(m proto.Message) error {
	var problems Problems
	for _, v := range violations(m) {
		message := v.message
		if v.other != nil {
			message += " " + v.other.String()
		}
		problems = append(problems, Problem{Field: v.path.String(), Rule: v.rule, Message: message})
	}
	return problems.orNil()
}

// violation is a broken rule before it has a place in a file.
type violation struct {
	path path
	// forKey tells that a map's key is at fault, not its value.
	forKey        bool
	rule, message string
	// other is the field that this one is in conflict with, if any. The
	// message ends before its name.
	other path
}

func violations(m proto.Message) []violation {
	found := declared(m)
	for _, s := range specsIn(m.ProtoReflect()) {
		for _, v := range beyondRules(s.spec) {
			v.path = s.at.join(v.path...)
			found = append(found, v)
		}
	}
	return found
}

// declared checks the rules of the .proto.
func declared(m proto.Message) []violation {
	err := protovalidate.Validate(m)
	if err == nil {
		return nil
	}
	var broken *protovalidate.ValidationError
	if !errors.As(err, &broken) {
		// A rule that does not compile, or a CEL evaluation that failed.
		return []violation{{rule: "rules", message: fmt.Sprintf("can't be checked: %v", err)}}
	}
	var found []violation
	for _, b := range broken.Violations {
		v := violation{
			path:    violationPath(b.Proto.GetField()),
			forKey:  b.Proto.GetForKey(),
			rule:    b.Proto.GetRuleId(),
			message: words(b),
		}
		if refine(&v, m.ProtoReflect()) {
			found = append(found, v)
		}
	}
	sortEntries(found)
	return found
}

// sortEntries orders what is wrong in one map by key: there it comes in another order
// each time.
func sortEntries(found []violation) {
	for len(found) > 0 {
		of, n := found[0].path.toMap(), 1
		for n < len(found) && of != "" && found[n].path.toMap() == of {
			n++
		}
		slices.SortStableFunc(found[:n], func(a, b violation) int {
			return strings.Compare(a.path.String(), b.path.String())
		})
		found = found[n:]
	}
}

// placedSpec is a launch spec inside another message.
type placedSpec struct {
	at   path
	spec *purserv1.LaunchSpec
}

// specsIn finds the message itself or the specs in its own fields; no message
// of the API holds one deeper.
func specsIn(m protoreflect.Message) []placedSpec {
	if spec, ok := m.Interface().(*purserv1.LaunchSpec); ok {
		return []placedSpec{{spec: spec}}
	}
	var found []placedSpec
	add := func(v protoreflect.Value, at ...any) {
		// A message built at run time has its specs built so, too.
		if spec, ok := v.Message().Interface().(*purserv1.LaunchSpec); ok {
			found = append(found, placedSpec{at, spec})
		}
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil || fd.Message().FullName() != specDescriptor.FullName():
		case fd.IsList():
			for i := range v.List().Len() {
				add(v.List().Get(i), string(fd.Name()), i)
			}
		default:
			add(v, string(fd.Name()))
		}
		return true
	})
	return found
}
