package forward

import (
	"testing"
	"unsafe"
)

// Forwarders of several versions write to one file: nothing in it is ever moved.
func TestWhereCountersAre(t *testing.T) {
	var c counted
	size, first, second := unsafe.Sizeof(c), unsafe.Offsetof(c.processes), unsafe.Offsetof(c.processes)+unsafe.Sizeof(c.processes[0])
	if size != 4096 || first != 1024 || second != 1088 {
		t.Errorf("%d bytes, gauges at %d and %d", size, first, second)
	}
}
