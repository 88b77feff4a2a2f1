package config

import (
	"errors"
	"fmt"
)

// Capacity says what the node has for workloads to ask for.
type Capacity struct {
	// CPU in cores, Memory and Pids are what the node has; what is found when zero.
	CPU    float64 `toml:"cpu"`
	Memory Size    `toml:"memory"`
	Pids   int64   `toml:"pids"`
	// The reserve is for all that is no workload.
	ReserveCPU    float64 `toml:"reserve_cpu"`
	ReserveMemory Size    `toml:"reserve_memory"`
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
