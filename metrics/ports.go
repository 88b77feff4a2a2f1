package metrics

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Ports are what the port forwarder has done, and has.
type Ports struct {
	// Connections by what became of them; all results are there.
	Connections map[string]uint64
	// BytesIn came from clients, BytesOut went to them.
	BytesIn, BytesOut uint64
	DatagramsDropped  uint64
	// Active connections, Held ones, and clients of UDP ports.
	Active, Held, UDPClients uint64
}

var (
	portConnectionsDesc = desc("port_connections_total", "Connections to published ports, by what became of them.", "result")
	portOpenDesc        = desc("port_connections", "Connections to published ports that are served, or held until an instance takes them.", "state")
	portUDPDesc         = desc("port_udp_clients", "Clients of published UDP ports that are remembered.")
	portBytesDesc       = desc("port_bytes_total", "Bytes that came from clients of published ports (in) and went to them (out).", "direction")
	portDroppedDesc     = desc("port_datagrams_dropped_total", "Datagrams of published UDP ports that had nowhere to go.")
)

func describePorts(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{portConnectionsDesc, portOpenDesc, portUDPDesc, portBytesDesc, portDroppedDesc} {
		ch <- d
	}
}

func collectPorts(ch chan<- prometheus.Metric, p Ports) {
	for _, result := range slices.Sorted(maps.Keys(p.Connections)) {
		counter(ch, portConnectionsDesc, float64(p.Connections[result]), result)
	}
	gauge(ch, portOpenDesc, float64(p.Active), "active")
	gauge(ch, portOpenDesc, float64(p.Held), "held")
	gauge(ch, portUDPDesc, float64(p.UDPClients))
	counter(ch, portBytesDesc, float64(p.BytesIn), "in")
	counter(ch, portBytesDesc, float64(p.BytesOut), "out")
	counter(ch, portDroppedDesc, float64(p.DatagramsDropped))
}

// PortForwarderRestarted notes that a port forwarder had died.
func (m *Metrics) PortForwarderRestarted() { m.forwarders.Inc() }
