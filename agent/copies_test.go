package agent

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
)

func TestCopies(t *testing.T) {
	const value, short = "a-value-of-24-bytes-long", "15-bytes-long.."
	resolution := &inject.Resolution{Secrets: []inject.Resolved{{Name: "s", Vars: []inject.Var{
		{Name: "A", Key: "KEY", Value: inject.NewValue([]byte(value))},
		{Name: "B", Key: "SHORT", Value: inject.NewValue([]byte(short))},
	}}}}
	for want, spec := range map[string]*purserv1.LaunchSpec{
		"":                 {Env: map[string]string{"A": short, "B": value[1:]}, Command: []string{"x"}},
		`env["A"]`:         {Env: map[string]string{"A": "x" + value + "y"}},
		"command[1]":       {Command: []string{"x", "--key=" + value}},
		"image.env[":       {Image: &purserv1.Image{Env: map[string]string{"C": value}}},
		"mounts[0].target": {Mounts: []*purserv1.Mount{{Target: proto.String("/" + value)}}},
		"labels contains":  {Labels: map[string]string{value: value}},
	} {
		err := copies(spec, resolution)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), value)) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
