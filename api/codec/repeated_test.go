package codec

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestRepeatedBinaryFields(t *testing.T) {
	encode := func(m proto.Message) []byte {
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	one := &purserv1.LaunchRequest{Spec: &purserv1.LaunchSpec{
		App: proto.String("a"), Command: []string{"x", "y"}, Env: map[string]string{"A": "1", "B": "2"},
		Secrets: []*purserv1.SecretRef{{Name: proto.String("s")}, {Name: proto.String("t")}},
		Image:   &purserv1.Image{Ref: proto.String("i")},
	}}
	inner := append(encode(one.Spec), encode(&purserv1.LaunchSpec{App: proto.String("b")})...)
	for name, c := range map[string]struct {
		data []byte
		m    proto.Message
		want string
	}{
		"once":        {encode(one), &purserv1.LaunchRequest{}, ""},
		"a message":   {append(encode(one), encode(one)...), &purserv1.LaunchRequest{}, "field spec of purser.v1.LaunchRequest is set twice"},
		"a scalar":    {inner, &purserv1.LaunchSpec{}, "field app of purser.v1.LaunchSpec is set twice"},
		"at depth":    {nested(inner), &purserv1.LaunchRequest{}, "field app of purser.v1.LaunchSpec is set twice"},
		"list of one": {append(encode(&purserv1.LaunchSpec{Command: []string{"x"}}), encode(&purserv1.LaunchSpec{Command: []string{"y"}})...), &purserv1.LaunchSpec{}, ""},
	} {
		err := protoCodec{}.Unmarshal(c.data, c.m)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// nested makes a launch request of an encoded spec.
func nested(spec []byte) []byte {
	return append([]byte{0x0a, byte(len(spec))}, spec...)
}
