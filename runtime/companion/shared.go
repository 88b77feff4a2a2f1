package companion

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Shared is a value in a file that processes have mapped, and which outlives them all. What
// is in it is read and written atomically, by versions that know less of it as well: no field
// is ever moved.
type Shared[T any] struct {
	Value *T
	File  *os.File
	mem   []byte
}

// Share maps the value in a file, which is zero in a new one, having made its directory.
func Share[T any](path string) (*Shared[T], error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	mem, err := Map(f, int(unsafe.Sizeof(*new(T))))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Shared[T]{Value: (*T)(unsafe.Pointer(&mem[0])), File: f, mem: mem}, nil
}

// Close takes the value out of this process's memory.
func (s *Shared[T]) Close() error { return errors.Join(unix.Munmap(s.mem), s.File.Close()) }

// Map maps a file, having made it so long. All of it is there then: a page that cannot be had
// later would kill the process.
func Map(f *os.File, size int) ([]byte, error) {
	if err := allocate(f, int64(size)); err != nil {
		return nil, fmt.Errorf("making room in %s: %w", f.Name(), err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", f.Name(), err)
	}
	return mem, nil
}

// allocate makes the file as long as it is to be. ramfs, for one, has no fallocate.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	info, err := f.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	_, err = f.WriteAt(make([]byte, size-info.Size()), info.Size())
	return err
}
