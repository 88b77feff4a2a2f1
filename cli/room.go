package cli

import (
	"fmt"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// roomTexts are what workloads may ask for, a line for each resource.
func roomTexts(c *purserv1.Capacity) []string {
	if c == nil {
		return nil
	}
	line := func(name, free, total, reserve string, factor float64, requested string) string {
		return fmt.Sprintf("%s: %s free, %s requested (%s, %s reserved, times %g)", name, free, requested, total, reserve, factor)
	}
	cores := func(n float64) string { return fmt.Sprintf("%g", n) }
	count := func(n int64) string { return fmt.Sprint(n) }
	total, reserve, factor, used, free := c.GetTotal(), c.GetReserve(), c.GetOvercommit(), c.GetRequested(), c.GetFree()
	return []string{
		line("cpu", cores(free.GetCpu()), cores(total.GetCpu()), cores(reserve.GetCpu()), factor.GetCpu(), cores(used.GetCpu())),
		line("memory", signedBytes(free.GetMemory()), signedBytes(total.GetMemory()), signedBytes(reserve.GetMemory()), factor.GetMemory(), signedBytes(used.GetMemory())),
		line("pids", count(free.GetPids()), count(total.GetPids()), count(reserve.GetPids()), factor.GetPids(), count(used.GetPids())),
	}
}

func signedBytes(n int64) string {
	if n < 0 {
		return "-" + bytesText(uint64(-n))
	}
	return bytesText(uint64(n))
}
