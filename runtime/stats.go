package runtime

import (
	"context"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/typeurl/v2"
)

// Stats is what a container uses.
type Stats struct {
	// CPU is the time it has used since its start, in seconds.
	CPU float64
	// Memory in bytes, without what the kernel could take back at once from
	// its cache of files.
	Memory uint64
	// OOMKills counts processes killed for want of memory.
	OOMKills uint64
}

// Stats returns what each running container of the namespace uses, by ID, with
// one call to containerd. Ones that ended meanwhile are left out.
func (r *Runtime) Stats(ctx context.Context) (map[string]Stats, error) {
	answer, err := r.client.TaskService().Metrics(r.ctx(ctx), &tasks.MetricsRequest{})
	if err != nil {
		return nil, r.wrap(err, "reading metrics")
	}
	all := make(map[string]Stats, len(answer.Metrics))
	for _, m := range answer.Metrics {
		data, err := typeurl.UnmarshalAny(m.Data)
		if err != nil {
			r.log.Warn("metrics of a container cannot be read", "instance", m.ID, "error", err)
			continue
		}
		switch d := data.(type) {
		case *cgroup1.Metrics:
			all[m.ID] = statsV1(d)
		case *cgroup2.Metrics:
			all[m.ID] = statsV2(d)
		}
	}
	return all, nil
}

func statsV1(m *cgroup1.Metrics) Stats {
	return Stats{
		CPU:      float64(m.GetCPU().GetUsage().GetTotal()) / 1e9,
		Memory:   less(m.GetMemory().GetUsage().GetUsage(), m.GetMemory().GetTotalInactiveFile()),
		OOMKills: m.GetMemoryOomControl().GetOomKill(),
	}
}

func statsV2(m *cgroup2.Metrics) Stats {
	return Stats{
		CPU:      float64(m.GetCPU().GetUsageUsec()) / 1e6,
		Memory:   less(m.GetMemory().GetUsage(), m.GetMemory().GetInactiveFile()),
		OOMKills: m.GetMemoryEvents().GetOomKill(),
	}
}

// less subtracts; the two are not read at one instant.
func less(a, b uint64) uint64 { return a - min(a, b) }
