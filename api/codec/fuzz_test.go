package codec_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/codec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Whatever arrives: reading ends, and what it accepts can be checked, printed,
// and sent on without anything getting lost.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"app":"a","specs":[{"app":"a","env":{"A":"b"},"image":{"ref":"b"}}],"dryRun":true}`))
	f.Add([]byte(`{"app":"a","app":"b"}`))
	good, err := proto.Marshal(&purserv1.DeployRequest{App: "a", Specs: []*purserv1.LaunchSpec{{App: proto.String("a")}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(good, unknownField()...))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range codec.All() {
			m := &purserv1.DeployRequest{}
			if c.Unmarshal(data, m) != nil {
				continue
			}
			_ = codec.Check(m)
			checkRoundTrip(t, c, m)
		}
	})
}

func checkRoundTrip(t *testing.T, c codec.Codec, m *purserv1.DeployRequest) {
	sent, err := c.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	again := &purserv1.DeployRequest{}
	if err := c.Unmarshal(sent, again); err != nil {
		t.Fatal(err)
	}
	one, _ := codec.MarshalJSON(m)
	two, _ := codec.MarshalJSON(again)
	if !bytes.Equal(one, two) {
		t.Errorf("got\n%s\nwant\n%s", two, one)
	}
}
