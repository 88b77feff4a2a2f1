package cli

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestParsePublish(t *testing.T) {
	for text, want := range map[string]string{
		"80":                  `container: 80`,
		"8080:80":             `container: 80 host: 8080`,
		"8080:80/udp":         `container: 80 host: 8080 protocol: "udp"`,
		"53/udp":              `container: 53 protocol: "udp"`,
		"127.0.0.1:8080:80":   `container: 80 host: 8080 host_ip: "127.0.0.1"`,
		"127.0.0.1::80":       `container: 80 host_ip: "127.0.0.1"`,
		"[::1]:8080:80/tcp":   `container: 80 host: 8080 host_ip: "::1" protocol: "tcp"`,
		"[fd00::1]:8080:9090": `container: 9090 host: 8080 host_ip: "fd00::1"`,
	} {
		var port purserv1.Port
		if err := prototext.Unmarshal([]byte(want), &port); err != nil {
			t.Fatal(err)
		}
		if got, err := parsePublish(text); err != nil || !proto.Equal(got, &port) {
			t.Errorf("%s: %v, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":               `"" is not a port`,
		"0":              `"0" is not a port`,
		"65536":          `"65536" is not a port`,
		"http":           `"http" is not a port`,
		"x:80":           `"x" is not a port`,
		"80:":            `"" is not a port`,
		"80/sctp":        `"sctp" is neither tcp nor udp`,
		"nohost:80:80":   `"nohost" is not an IP address`,
		"1.2.3.4:80:80:": `is not`,
	} {
		if _, err := parsePublish(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func FuzzParsePublish(f *testing.F) {
	for _, text := range []string{"80", "8080:80/udp", "[::1]:8080:80", "127.0.0.1::80", ":", "]:1:2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePublish(text)
		if err == nil && (p.GetContainer() < 1 || p.GetContainer() > 65535 || p.GetHost() > 65535) {
			t.Errorf("%q is %v", text, p)
		}
	})
}
