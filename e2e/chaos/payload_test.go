package chaos

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// kind is what a payload is like.
type kind string

const (
	ticker  kind = "ticker"  // writes numbered lines, ends when asked to
	files   kind = "files"   // a ticker with its secret in a file, too
	turner  kind = "turner"  // a ticker with the secret that may be bad: it ends with a bad one
	roller  kind = "roller"  // a turner that is replaced by a rolling change
	reader  kind = "reader"  // a ticker that reads that secret from a file, and is not ready with a bad one
	flood   kind = "flood"   // writes so many that its log rotates
	deaf    kind = "deaf"    // ignores SIGTERM
	crasher kind = "crasher" // ends again and again with status 5
	good    kind = "good"    // a job that ends with status 0
	bad     kind = "bad"     // a job all of whose attempts end with status 3
)

func (k kind) job() bool { return k == good || k == bad }

// secretName is that of its secret; empty for none.
func (k kind) secretName() string {
	switch k {
	case deaf, crasher:
		return ""
	case turner, roller, reader:
		return turning
	}
	return plain
}

// retries of a job.
const retries = 2

// All but rollers write to their file of the truth when they begin, and how they are about to
// end; a roller, whose mounts have to be read-only, to a pipe that leads there.
const (
	begins = `truth=/truth/${PIPE-$NAME}; echo "start $PURSER_INSTANCE $MARK" >>$truth; end() { echo "exit $PURSER_INSTANCE $1" >>$truth; exit $1; }; case "$KEY" in bad*) end 7;; esac; ` + serves
	// What has the secret that may be bad serves a page while it can live on it: to ask for
	// that costs next to nothing.
	serves = `mkdir /www; : >/www/ok; [ -z "$SERVES" ] || httpd -p 8080 -h /www; ` +
		`look() { read -r v </run/secrets/s/KEY; case "$v" in bad*) rm -f /www/ok;; *) [ -e /www/ok ] || : >/www/ok;; esac; }; [ "$SERVES" = file ] || look() { :; }; `
	ticks = begins + `i=0; trap 'echo "bye $i"; end 0' TERM; while :; do echo "n $i"; i=$((i+1)); case $i in *0) echo "v $KEY";; esac; look; sleep 0.1; done`
)

var scripts = map[kind]string{
	ticker:  ticks,
	files:   ticks,
	turner:  ticks,
	roller:  ticks,
	reader:  ticks,
	flood:   begins + `i=0; trap 'end 0' TERM; while :; do seq $i $((i+1999)); i=$((i+2000)); sleep 0.2; done`,
	deaf:    begins + `trap "" TERM; i=0; while :; do echo "n $i"; i=$((i+1)); sleep 0.2; done`,
	crasher: begins + `sleep 0.3; end 5`,
	good:    begins + `echo one; sleep 0.2; echo two; end 0`,
	bad:     begins + `echo one; sleep 0.1; end 3`,
}

// spec is the launch spec of a workload, told from its earlier ones by mark.
func (n *node) spec(name string, k kind, mark int) *purserv1.LaunchSpec {
	runtimes := n.settings.runtimes
	s := &purserv1.LaunchSpec{
		App: proto.String("c"), Function: proto.String(name), Environment: proto.String(environment),
		Image:   &purserv1.Image{Ref: proto.String(image)},
		Command: []string{"sh", "-c", scripts[k]},
		Env:     map[string]string{"CHAOS": n.truth, "NAME": name, "MARK": strconv.Itoa(mark)},
		Runtime: proto.String(runtimes[len(name)%len(runtimes)]),
		Stop:    &purserv1.Stop{Grace: proto.String("3s")},
		Mounts:  []*purserv1.Mount{{Source: proto.String(n.truth), Target: proto.String("/truth")}},
	}
	if !k.job() {
		s.Rotation = &purserv1.Rotation{Strategy: proto.String("restart"), MinReady: proto.String("200ms")}
	}
	if k == deaf {
		s.Stop.Grace = proto.String("300ms")
	}
	if k == roller {
		s.Env["PIPE"], s.Mounts[0].ReadOnly = pipeOf(name), proto.Bool(true)
		s.Rotation.Strategy = proto.String("rolling")
	}
	if name := k.secretName(); name != "" {
		ref := &purserv1.SecretRef{Name: proto.String(name)}
		if k == files || k == reader {
			ref.File = &purserv1.SecretFile{Path: proto.String("/run/secrets/s")}
		}
		s.Secrets = []*purserv1.SecretRef{ref}
	}
	if k.secretName() == turning {
		s.Env["SERVES"], s.Probes = "variable", whileServed()
	}
	if k == reader {
		s.Env["SERVES"] = "file"
		s.Secrets[0].Env = proto.Bool(false)
		s.Rotation.HealthTimeout = proto.String("2500ms")
	}
	if k.job() {
		s.Kind, s.Retries = proto.String("job"), proto.Uint32(retries)
		return s
	}
	s.Restart = &purserv1.Restart{BackoffMin: proto.String("100ms"), BackoffMax: proto.String("1s")}
	return s
}

// whileServed is a ready probe of a page that is there as long as the secret is good.
func whileServed() *purserv1.Probes {
	return &purserv1.Probes{Ready: &purserv1.Probe{
		Http: &purserv1.HttpProbe{Port: proto.Uint32(8080), Path: proto.String("/ok")}, Period: proto.String("200ms"), Failures: proto.Uint32(1),
	}}
}

func pipeOf(name string) string { return name + ".pipe" }

// copyPipe copies what is written to the pipe of a workload to its file of the truth.
func (n *node) copyPipe(name string) {
	n.t.Helper()
	path := filepath.Join(n.truth, pipeOf(name))
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		n.t.Fatal(err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR, 0) // for writing, too: it does not end with who writes
	if err != nil {
		n.t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(n.truth, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	var copying sync.WaitGroup
	copying.Go(func() { _, _ = io.Copy(file, pipe) })
	n.t.Cleanup(func() {
		_ = pipe.Close()
		copying.Wait()
		_ = file.Close()
	})
}

// told is what a workload's payloads have written to the truth.
type told struct {
	starts []string       // the instances, in order
	exits  map[string]int // how they said that they would end
}

func (n *node) told(name string) told {
	out := told{exits: map[string]int{}}
	data, _ := os.ReadFile(filepath.Join(n.truth, name))
	for line := range strings.Lines(string(data)) {
		var instance string
		var number int
		if _, err := fmt.Sscanf(line, "start %s %d", &instance, &number); err == nil {
			out.starts = append(out.starts, instance)
		}
		if _, err := fmt.Sscanf(line, "exit %s %d", &instance, &number); err == nil {
			out.exits[instance] = number
		}
	}
	return out
}
