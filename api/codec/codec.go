package codec

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// MaxMessage is the size in bytes up to which a server reads one message. It
// leaves room for an app of many functions and for the largest secret in
// base64.
const MaxMessage = 32 << 20

// minCompressed is the size in bytes from which on an answer is compressed for
// clients that take it so: below, it takes longer than it saves.
const minCompressed = 16 << 10

// HandlerOptions makes a server read requests strictly and write JSON in
// snake_case with every field of an answer present.
func HandlerOptions() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithCodec(jsonCodec{name: "json"}),
		// Connect takes the whole content type as the name of the codec.
		connect.WithCodec(jsonCodec{name: "json; charset=utf-8"}),
		connect.WithCodec(protoCodec{}),
		connect.WithReadMaxBytes(MaxMessage),
		connect.WithCompressMinBytes(minCompressed),
	}
}

// jsonCodec is the protobuf's JSON mapping, in snake_case.
type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }

func (c jsonCodec) Marshal(v any) ([]byte, error) {
	m, err := message(v)
	if err != nil {
		return nil, err
	}
	return jsonMapping.Marshal(m)
}

func (c jsonCodec) Unmarshal(data []byte, v any) error {
	m, err := message(v)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return errors.New("empty body: send {} for a request without fields")
	}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(data, m); err != nil {
		return malformedJSON(err)
	}
	return nil
}

// protoCodec is the binary encoding.
type protoCodec struct{}

func (protoCodec) Name() string { return "proto" }

func (protoCodec) Marshal(v any) ([]byte, error) {
	m, err := message(v)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(m)
}

func (protoCodec) MarshalAppend(dst []byte, v any) ([]byte, error) {
	m, err := message(v)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

func (protoCodec) Unmarshal(data []byte, v any) error {
	m, err := message(v)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("this is not a %s in the binary encoding", m.ProtoReflect().Descriptor().FullName())
	}
	if err := refuseRepeated(data, m.ProtoReflect().Descriptor()); err != nil {
		return err
	}
	return refuseUnknown(m.ProtoReflect(), "")
}

func message(v any) (proto.Message, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", v)
	}
	return m, nil
}
