package config

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Capacity says what the node has for workloads to ask for.
type Capacity struct {
	// CPU in cores, Memory and Pids are what the node has; what is found when zero.
	CPU    float64 `toml:"cpu"`
	Memory Bytes   `toml:"memory"`
	Pids   int64   `toml:"pids"`
	// The reserve is for all that is no workload.
	ReserveCPU    float64 `toml:"reserve_cpu"`
	ReserveMemory Bytes   `toml:"reserve_memory"`
	ReservePids   int64   `toml:"reserve_pids"`
	// Workloads may ask for so many times the rest.
	OvercommitCPU    float64 `toml:"overcommit_cpu"`
	OvercommitMemory float64 `toml:"overcommit_memory"`
	OvercommitPids   float64 `toml:"overcommit_pids"`
}

// defaultCapacity promises memory and processes once, as who uses up what others were
// promised ends them. CPU time that is short makes them slower, and few use all of
// their limit all of the time.
var defaultCapacity = Capacity{
	ReserveCPU: 0.1, ReserveMemory: 256 << 20, ReservePids: 1000,
	OvercommitCPU: 4, OvercommitMemory: 1, OvercommitPids: 1,
}

// Bytes is a number of bytes, as 16Mi, that may be 0.
type Bytes int64

// UnmarshalText reads a quantity as launch specs have them.
func (b *Bytes) UnmarshalText(text []byte) error {
	q, err := resource.ParseQuantity(string(text))
	if err != nil || q.Sign() < 0 {
		return fmt.Errorf("%q is not a size such as 512Mi, nor 0", text)
	}
	*b = Bytes(q.Value())
	return nil
}

// MarshalText writes it as it is read.
func (b Bytes) MarshalText() ([]byte, error) {
	return []byte(resource.NewQuantity(int64(b), resource.BinarySI).String()), nil
}

// The most that a key may say keeps sums within 64 bits.
const (
	maxCores  = 1 << 20
	maxFactor = 1000
)

func (c Capacity) check() error {
	var errs []error
	within := func(key string, value, least, most float64) {
		if !(value >= least && value <= most) {
			errs = append(errs, fmt.Errorf("capacity.%s: %g is not a number from %g to %g", key, value, least, most))
		}
	}
	within("cpu", c.CPU, 0, maxCores)
	within("pids", float64(c.Pids), 0, 1<<32)
	within("memory", float64(c.Memory), 0, 1<<52)
	within("reserve_cpu", c.ReserveCPU, 0, maxCores)
	within("reserve_memory", float64(c.ReserveMemory), 0, 1<<52)
	within("reserve_pids", float64(c.ReservePids), 0, 1<<32)
	within("overcommit_cpu", c.OvercommitCPU, 0.1, maxFactor)
	within("overcommit_memory", c.OvercommitMemory, 0.1, maxFactor)
	within("overcommit_pids", c.OvercommitPids, 0.1, maxFactor)
	return errors.Join(errs...)
}
