package metrics

import "github.com/prometheus/client_golang/prometheus"

// Amounts of what workloads ask for.
type Amounts struct{ CPUCores, MemoryBytes, Pids float64 }

// Room is what a node has, what of it workloads may ask for, and what they do ask for.
type Room struct{ Capacity, Allocatable, Requested Amounts }

// Drained is the reason of what is refused on a node that is drained. All others are
// resources that there is too little of.
const Drained = "drained"

var (
	capacityDescs = [3]*prometheus.Desc{
		desc("node_capacity_cpu_cores", "CPU that the node has."),
		desc("node_capacity_memory_bytes", "Memory that the node has."),
		desc("node_capacity_pids", "Processes and threads that the node can have."),
	}
	allocatableDescs = [3]*prometheus.Desc{
		desc("node_allocatable_cpu_cores", "CPU that workloads may ask for: capacity less the reserve, times the overcommit factor."),
		desc("node_allocatable_memory_bytes", "Memory that workloads may ask for."),
		desc("node_allocatable_pids", "Processes and threads that workloads may ask for."),
	}
	requestedDescs = [3]*prometheus.Desc{
		desc("node_requested_cpu_cores", "CPU that the workloads ask for that are to run."),
		desc("node_requested_memory_bytes", "Memory that the workloads ask for that are to run."),
		desc("node_requested_pids", "Processes and threads that the workloads ask for that are to run."),
	}
	drainingDesc = desc("node_draining", "1 while the node is drained, or being drained.")
)

func describeNode(ch chan<- *prometheus.Desc) {
	for _, descs := range [][3]*prometheus.Desc{capacityDescs, allocatableDescs, requestedDescs} {
		for _, d := range descs {
			ch <- d
		}
	}
	ch <- drainingDesc
}

func collectNode(ch chan<- prometheus.Metric, s Snapshot) {
	amounts(ch, capacityDescs, s.Room.Capacity)
	amounts(ch, allocatableDescs, s.Room.Allocatable)
	amounts(ch, requestedDescs, s.Room.Requested)
	gauge(ch, drainingDesc, number(s.Draining))
}

func amounts(ch chan<- prometheus.Metric, descs [3]*prometheus.Desc, a Amounts) {
	gauge(ch, descs[0], a.CPUCores)
	gauge(ch, descs[1], a.MemoryBytes)
	gauge(ch, descs[2], a.Pids)
}

// NotAdmitted notes something that was refused, and for which reason.
func (m *Metrics) NotAdmitted(reason string) { m.notAdmitted.WithLabelValues(reason).Inc() }
