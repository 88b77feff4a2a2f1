package config

import (
	"strings"
	"testing"
)

func TestCapacity(t *testing.T) {
	c, err := Parse("config.toml", []byte("[capacity]\ncpu = 2\nmemory = '8Gi'\nreserve_memory = '0'\novercommit_cpu = 1.5"))
	if err != nil {
		t.Fatal(err)
	}
	got := c.Capacity
	if got.CPU != 2 || got.Memory != 8<<30 || got.ReserveMemory != 0 || got.OvercommitCPU != 1.5 {
		t.Errorf("got %+v", got)
	}
	if got.OvercommitMemory != 1 || got.ReserveCPU != 0.1 {
		t.Errorf("defaults are gone: %+v", got)
	}
}

func TestCapacityThatCannotBe(t *testing.T) {
	for in, want := range map[string]string{
		"cpu = -1":                  "capacity.cpu: -1 is not a number from 0",
		"memory = '-1Gi'":           "is not a size such as 512Mi",
		"memory = 'much'":           "is not a size such as 512Mi",
		"pids = -5":                 "capacity.pids: -5 is not a number",
		"reserve_cpu = inf":         "capacity.reserve_cpu: +Inf is not a number",
		"overcommit_memory = 0":     "capacity.overcommit_memory: 0 is not a number from 0.1 to 1000",
		"overcommit_cpu = nan":      "capacity.overcommit_cpu: NaN is not a number",
		"overcommit_pids = 1001":    "capacity.overcommit_pids: 1001 is not a number",
		"overcomit_cpu = 2":         "did you mean capacity.overcommit_cpu?",
		"reserve_memory = '5Ei'":    "capacity.reserve_memory",
		"cpu = 1e9\nmemory = '1Ei'": "capacity.memory",
	} {
		if _, err := Parse("config.toml", []byte("[capacity]\n"+in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to contain %q", in, err, want)
		}
	}
}
