package companion

import (
	"os"
	"syscall"
)

// Executable identifies the file that a process runs. It goes from one version to another.
type Executable struct {
	Device, Inode uint64
	Size          int64
	Modified      int64 // ns
}

// Self is what this process runs, whatever lies at its path by now.
func Self() (Executable, error) { return executable("/proc/self/exe") }

func executable(path string) (Executable, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Executable{}, err
	}
	x := Executable{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		x.Device, x.Inode = stat.Dev, stat.Ino
	}
	return x, nil
}
