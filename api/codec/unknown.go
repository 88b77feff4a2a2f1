package codec

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// refuseUnknown finds the first field, at any depth, that the message's
// definition lacks. Only its number is known.
func refuseUnknown(m protoreflect.Message, path string) error {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		number, _, _ := protowire.ConsumeTag(unknown)
		return fmt.Errorf("unknown field number %d in %s", number, where(m, path))
	}
	var err error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		err = refuseUnknownIn(fd, v, path+string(fd.Name()))
		return err == nil
	})
	return err
}

func refuseUnknownIn(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string) error {
	var err error
	switch {
	case fd.IsMap() && fd.MapValue().Message() != nil:
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			err = refuseUnknown(v.Message(), fmt.Sprintf("%s[%q].", path, k.String()))
			return err == nil
		})
	case fd.IsList() && fd.Message() != nil:
		for i := 0; i < v.List().Len() && err == nil; i++ {
			err = refuseUnknown(v.List().Get(i).Message(), fmt.Sprintf("%s[%d].", path, i))
		}
	case !fd.IsMap() && !fd.IsList() && fd.Message() != nil:
		err = refuseUnknown(v.Message(), path+".")
	}
	return err
}

func where(m protoreflect.Message, path string) string {
	name := string(m.Descriptor().FullName())
	if path == "" {
		return name
	}
	return strings.TrimSuffix(path, ".") + " (" + name + ")"
}
