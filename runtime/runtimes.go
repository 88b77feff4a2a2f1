package runtime

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/purserd/purser/runtime/handover"
)

// shimName is the shim that every OCI runtime with runc's command line runs under.
const shimName = "io.containerd.runc.v2"

// RuntimeConfig is one OCI runtime.
type RuntimeConfig struct {
	// Path of its executable; looked up in PATH when it has no slash; the
	// runtime's name when empty.
	Path string
	// Options are those of containerd's runc shim, named as in containerd's
	// configuration (SystemdCgroup) or its API (systemd_cgroup). Anything else
	// is an error.
	Options map[string]any
}

// RuntimeInfo tells of a runtime that specs may name.
type RuntimeInfo struct {
	Name    string
	Default bool
	// Path is where its executable was found.
	Path string
	// Version is the first line of what it says of itself.
	Version string
	// Err says why it cannot be used.
	Err error
}

func defaultRuntime(cfg Config) (string, error) {
	name := cfg.DefaultRuntime
	if name == "" {
		name = "runc"
		if len(cfg.Runtimes) == 1 {
			for only := range cfg.Runtimes {
				name = only
			}
		}
	}
	if _, ok := cfg.Runtimes[name]; !ok {
		return "", fmt.Errorf("default runtime %q is not among the configured ones: %s", name, names(cfg.Runtimes))
	}
	return name, nil
}

func checkRuntimes(all map[string]RuntimeConfig) error {
	var wrong []error
	for name, c := range all {
		if _, err := c.shimOptions(); err != nil {
			wrong = append(wrong, fmt.Errorf("options of runtime %q: %w", name, err))
		}
	}
	return errors.Join(wrong...)
}

// runtimeOptions returns what a runtime is executed through, and the shim's
// options for it, by name; empty is the default. A container that holds no secret is
// spared the wrapper, which takes a millisecond of each call of the runtime, unless
// its processes are known to the runtime alone.
func (r *Runtime) runtimeOptions(name string, holder bool) (through handover.Installed, options typeurl.Any, err error) {
	name, c, path, err := r.chosen(name)
	if err != nil {
		return through, nil, err
	}
	o, err := c.shimOptions()
	if err != nil {
		return through, nil, fmt.Errorf("options of runtime %q: %w", name, err)
	}
	if through, err = r.handover.Install(name, r.cfg.Wrapper, path); err != nil {
		return through, nil, err
	}
	sandbox := r.isSandbox(path)
	note := through.NotePIDs
	if !sandbox {
		note = through.NoteNoPIDs // another runtime may have had the name
	}
	if err := note(); err != nil {
		return through, nil, err
	}
	o.BinaryName, o.Root = path, through.Root
	if holder || sandbox {
		o.BinaryName = through.Path
	}
	options, err = typeurl.MarshalAny(o)
	return through, options, err
}

// chosen is the runtime that a spec names, or the default for an empty name, and the path
// of its executable.
func (r *Runtime) chosen(name string) (is string, c RuntimeConfig, path string, err error) {
	is = cmp.Or(name, r.cfg.DefaultRuntime)
	c, ok := r.cfg.Runtimes[is]
	if !ok {
		return is, c, "", fmt.Errorf("runtime %q is not configured on this node; there is: %s", is, names(r.cfg.Runtimes))
	}
	path, err = c.find(is)
	return is, c, path, err
}

func (c RuntimeConfig) find(name string) (string, error) {
	file := c.Path
	if file == "" {
		file = name
	}
	path, err := exec.LookPath(file)
	if err != nil {
		return "", fmt.Errorf("runtime %q is not installed: %w", name, err)
	}
	return filepath.Abs(path)
}

// shimOptions reads Options strictly.
func (c RuntimeConfig) shimOptions() (*options.Options, error) {
	o := &options.Options{}
	fields := o.ProtoReflect().Descriptor().Fields()
	named := make(map[string]any, len(c.Options))
	for key, v := range c.Options {
		f := field(fields, key)
		if f == "" {
			return nil, fmt.Errorf("%s is none of the runc shim's", key)
		}
		if _, twice := named[f]; twice {
			return nil, fmt.Errorf("%s is given twice", key)
		}
		named[f] = v
	}
	data, err := json.Marshal(named)
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(data, o); err != nil {
		return nil, err
	}
	switch {
	case o.BinaryName != "":
		return nil, errors.New("the executable is given by path, not by BinaryName")
	case o.Root != "":
		return nil, errors.New("where the runtime keeps its state is not to be chosen (Root): there may be copies of secrets in it")
	case o.SystemdCgroup:
		return nil, errors.New("SystemdCgroup does not work here: containers get their cgroups directly, under cgroup_parent")
	}
	return o, nil
}

// field finds a field's name by what containerd's configuration calls it.
func field(fields protoreflect.FieldDescriptors, key string) string {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	for i := range fields.Len() {
		if name := string(fields.Get(i).Name()); plain(name) == plain(key) {
			return name
		}
	}
	return ""
}

func names(all map[string]RuntimeConfig) string {
	return strings.Join(slices.Sorted(maps.Keys(all)), ", ")
}
