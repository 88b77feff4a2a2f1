package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

const smallNode = `
[capacity]
cpu = 2
memory = "1Gi"
pids = 1000
reserve_cpu = 0
reserve_memory = "256Mi"
reserve_pids = 0
overcommit_cpu = 2.0
`

// asks is a service that asks for memory.
func asks(function, memory string) string {
	return fmt.Sprintf("\n  - function: %s\n    image: {ref: %s}\n    command: [sleep, \"100000\"]\n    stop: {grace: 0s}\n    resources: {memory: %s}", function, image, memory)
}

func asking(functions ...string) string {
	return "app: a\nfunctions:" + strings.Join(functions, "") + "\n"
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	n := emptyNodeWith(t, rig.Versions[0], smallNode)
	n.must("image", "import", boxImage(t))
	n.deploy(asking(asks("f", "512Mi")), "--wait")
	before := n.get("a/f").pid()

	// All or nothing, with the numbers.
	big := file(t, "big.yaml", asking(asks("f", "512Mi"), asks("g", "128Mi"), asks("h", "256Mi")))
	said := n.refused("deploy", big)
	for _, want := range []string{"the node has no room for it", "memory: 896Mi asked for", "768Mi free of 768Mi (1Gi less a reserve of 256Mi, times 1)", "dev a/f (512Mi), dev a/h (256Mi), dev a/g (128Mi)"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
	if got := n.must("ps", "-a"); strings.Contains(got, "a/g") || strings.Contains(got, "a/h") {
		t.Errorf("some of it was launched:\n%s", got)
	}
	if said := n.refused("deploy", "--dry-run", big); !strings.Contains(said, "no room") {
		t.Errorf("a dry run says %q", said)
	}
	if said := n.refused("run", "--image", image, "--cpu", "4.5", "--", "true"); !strings.Contains(said, "cpu: 4.5 asked for, 4 free of 4 (2 less a reserve of 0, times 2)") {
		t.Errorf("cpu: %q", said)
	}

	// An update is counted by what it asks for more, and what is stopped makes room.
	n.deploy(asking(asks("f", "768Mi")), "--wait")
	if n.get("a/f").pid() == before {
		t.Error("it was not replaced")
	}
	n.must("stop", "a/f")
	n.must("run", "--image", image, "--memory", "700Mi", "--", "true")
	n.deploy("app: b\nfunctions:"+asks("x", "512Mi")+"\n", "--wait")
	if said := n.refused("start", "a/f"); !strings.Contains(said, "most of it by dev b/x (512Mi)") {
		t.Errorf("start: %q", said)
	}
	n.must("restart", "b/x")
	n.must("rm", "-f", "b/x")
	n.must("start", "a/f")

	if got := n.must("node"); !strings.Contains(got, "memory: 0 B free, 768.0 MiB requested (1.0 GiB, 256.0 MiB reserved, times 1)") {
		t.Errorf("node:\n%s", got)
	}
	for name, want := range map[string]string{
		"purser_node_capacity_memory_bytes": "1.073741824e+09", "purser_node_allocatable_cpu_cores": "4",
		"purser_node_requested_memory_bytes": "8.05306368e+08", `purser_not_admitted_total{reason="cpu"}`: "1",
	} {
		if got := n.metric(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	n.lowerCapacity(t)
}

// lowerCapacity gives the node less than has been accepted, which stays.
func (n *node) lowerCapacity(t *testing.T) {
	t.Helper()
	n.stop()
	n.config = strings.Replace(smallNode, "1Gi", "512Mi", 1)
	n.start()
	n.await("a/f", "running", inState("running"))
	if got := n.must("node"); !strings.Contains(got, "memory: -512.0 MiB free") {
		t.Errorf("node:\n%s", got)
	}
	n.must("restart", "a/f")
	n.must("wait", "--until", "ready", "a/f")
	n.must("run", "--image", image, "--", "true")
}

// Of many who want the last room at once one gets it.
func TestAdmissionOfManyAtOnce(t *testing.T) {
	t.Parallel()
	n := emptyNodeWith(t, rig.Versions[0], smallNode)
	n.must("image", "import", boxImage(t))
	const many = 8
	codes := make([]int, many)
	var launches sync.WaitGroup
	for i := range many {
		path := file(t, fmt.Sprintf("%d.yaml", i), fmt.Sprintf("app: a%d\nfunctions:%s\n", i, asks("f", "300Mi")))
		launches.Go(func() { codes[i] = n.run("deploy", path).code })
	}
	launches.Wait()
	admitted := 0
	for _, code := range codes {
		if code == 0 {
			admitted++
		}
	}
	if admitted != 2 {
		t.Errorf("%d of %d were admitted, and there is room for 2", admitted, many)
	}
}
