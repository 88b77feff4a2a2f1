package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/purserd/purser/inject"
)

// copied refuses a request of which a string contains the value of a secret of an
// environment. A launch spec is kept, shown and given to containerd as it stands, and
// what is run in a container is in a file for a moment, so that the value would be on
// a disk in plain text.
func copied(ctx context.Context, environment string, request proto.Message, values *inject.Copies) error {
	var all []string
	var failed error
	look(request.ProtoReflect(), "", func(field, text string) bool {
		if failed != nil {
			return true
		}
		secret, key, found, err := values.Find(ctx, environment, text)
		if failed = err; found {
			all = append(all, fmt.Sprintf("%s contains the value of key %s of secret %s, which would be on a disk in plain text: leave it out, a reference to the secret delivers it", field, key, secret))
		}
		return found
	})
	switch {
	case failed != nil:
		return failed
	case len(all) > 0:
		slices.Sort(all) // fields and names in maps come in any order
		return &Refusal{Reason: Invalid, Err: errors.New(strings.Join(all, "\n"))}
	}
	return nil
}

// look visits every string in a message, with the path of its field, which holds
// no key of a map for which visit says true.
func look(m protoreflect.Message, at string, visit func(field, text string) bool) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		field := at + string(fd.Name())
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if !visit(field, k.String()) {
					lookAt(fd.MapValue(), v, fmt.Sprintf("%s[%q]", field, k.String()), visit)
				}
				return true
			})
		case fd.IsList():
			for i := range v.List().Len() {
				lookAt(fd, v.List().Get(i), fmt.Sprintf("%s[%d]", field, i), visit)
			}
		default:
			lookAt(fd, v, field, visit)
		}
		return true
	})
}

func lookAt(fd protoreflect.FieldDescriptor, v protoreflect.Value, field string, visit func(field, text string) bool) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		visit(field, v.String())
	case protoreflect.MessageKind:
		look(v.Message(), field+".", visit)
	}
}
