package codec

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// refuseRepeated finds the first field, at any depth, that an encoding sets
// again although the definition has it once. protobuf merges the two, so that what
// the sender meant is not known. The encoding is one that protobuf can read.
func refuseRepeated(data []byte, md protoreflect.MessageDescriptor) error {
	seen := map[protowire.Number]bool{}
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(number, kind, data[n:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		value := data[n : n+size]
		data = data[n+size:]
		fd := md.Fields().ByNumber(number)
		if fd == nil {
			continue
		}
		if fd.Cardinality() != protoreflect.Repeated && seen[number] {
			return fmt.Errorf("field %s of %s is set twice", fd.Name(), md.FullName())
		}
		seen[number] = true
		if fd.Message() == nil || kind != protowire.BytesType {
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		if err := refuseRepeated(inner, fd.Message()); err != nil {
			return err
		}
	}
	return nil
}
