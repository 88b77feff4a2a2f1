// Command purser-oci is what containerd takes for the OCI runtime of purser's
// containers. It completes what the real runtime gets with what containerd must
// not see: on create and exec it takes the container's secret-free document to the
// agent, gets a complete one back on a descriptor that no disk is behind, and
// becomes the real runtime, with its arguments pointing there.
//
// All else, and every container that is not purser's, reaches the runtime
// untouched: the wrapper replaces itself by it, so that exit status, signals and
// streams are the runtime's own. It finds its way by its own path, which the agent
// lays out (see package protocol) and which never changes, so that containers of
// an earlier agent are in good hands:
//
//	<private>/runtimes/<name>/purser-oci    this program
//	<private>/runtimes/<name>/runtime       the runtime that it becomes
//	<private>/oci.sock                      the agent
//
// It is on the way of every launch, hence the few imports: a package more is
// paid for in each one.
package main

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/purserd/purser/runtime/handover/protocol"
)

func main() {
	// The thread that joins a cgroup has to be the one that becomes the runtime.
	runtime.LockOSThread()
	if len(os.Args) > 1 && os.Args[1] == protocol.HookCommand {
		runHook(os.Args[2:])
		return
	}
	if len(os.Args) == 2 && os.Args[1] == protocol.TryCommand {
		return
	}
	c := parse(os.Args[1:])
	w := wrapper{command: c, home: directory(os.Args[0])}
	args, err := w.complete()
	if err != nil {
		w.fail(err)
	}
	path, err := os.Readlink(w.home + "/" + protocol.Runtime)
	if err != nil {
		w.fail(wrap("finding the runtime to become", err))
	}
	err = syscall.Exec(path, append([]string{path}, args...), os.Environ())
	w.fail(wrap("executing "+path, err))
}

// wrapper is one invocation.
type wrapper struct {
	command
	home string // the runtime's directory
}

func (w wrapper) private() string { return directory(directory(w.home)) }

// complete returns the arguments for the runtime.
func (w wrapper) complete() ([]string, error) {
	switch w.name {
	case "create", "run":
		return w.create()
	case "exec":
		return w.exec()
	}
	return w.args, w.guard()
}

// create completes the bundle's configuration if it carries a token of purser's.
func (w wrapper) create() ([]string, error) {
	bundle, given := w.own("bundle", "b")
	if !given {
		bundle = "."
	}
	document, err := os.ReadFile(bundle + "/config.json")
	if err != nil || !bytes.Contains(document, []byte(protocol.Annotation)) {
		return w.args, nil // what is wrong with it is for the runtime to say
	}
	if bundle, err = absolute(bundle); err != nil {
		return nil, wrap("finding the bundle", err)
	}
	if err := w.handOver(protocol.OpCreate, bundle, document); err != nil {
		return nil, err
	}
	complete := w.private() + "/" + protocol.Bundle
	if given {
		return w.replace(complete, "bundle", "b"), nil
	}
	return w.insert("--bundle", complete), nil
}

// exec completes the process if it carries a token of purser's, and has its process
// ID in the container noted where that is wanted.
func (w wrapper) exec() ([]string, error) {
	args, err := w.execArgs()
	if note := w.note(); err == nil && note != "" {
		args = wrapper{command: parse(args)}.insert("--internal-pid-file", note)
	}
	return args, err
}

// note is the file for the process ID in the container; empty for none.
func (w wrapper) note() string {
	file, _ := w.own("pid-file")
	dir := w.home + "/" + protocol.Inside
	if _, err := os.Lstat(dir); err != nil || file == "" {
		return ""
	}
	return dir + "/" + file[strings.LastIndexByte(file, '/')+1:]
}

func (w wrapper) execArgs() ([]string, error) {
	file, _ := w.own("process", "p")
	if file == "" {
		return w.args, nil
	}
	document, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(document, []byte(protocol.EnvToken+"=")) {
		return w.args, nil
	}
	if err := w.handOver(protocol.OpExec, "", document); err != nil {
		return nil, err
	}
	return w.replace(protocol.SpecPath, "process", "p"), nil
}

// guard is for what is passed on. A runtime may read what it keeps of a container, the
// values of its secrets among it, and is no more to leave them on a disk than at the
// handover: what can be done about that must not keep a container from being ended. A
// checkpoint is refused. It goes by the words alone: a flag that is not known here
// must not hide the subcommand or the container.
func (w wrapper) guard() error {
	checkpoint := false
	for _, arg := range w.args {
		if arg == "" || strings.Contains(arg, "/") || !w.holds(arg) {
			checkpoint = checkpoint || arg == "checkpoint"
			continue
		}
		if checkpoint {
			return failure("a checkpoint would write the secrets of container " + arg + " to disk")
		}
		_ = w.join()
		noCore()
		return nil
	}
	return nil
}

// holds says whether a container of that ID was given secrets.
func (w wrapper) holds(id string) bool {
	_, err := os.Lstat(w.private() + "/" + protocol.Holders + "/" + id)
	return err == nil
}

// noCore limits core dumps to the one byte that makes the kernel write none.
func noCore() {
	limit := syscall.Rlimit{Cur: 1, Max: 1}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		// A hard limit of 0 can't be raised to 1, and a file is not written then.
		limit = syscall.Rlimit{}
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	}
}

// insert puts arguments right after the subcommand.
func (w wrapper) insert(more ...string) []string {
	args := append([]string(nil), w.args[:w.at+1]...)
	args = append(args, more...)
	return append(args, w.args[w.at+1:]...)
}

// join moves this thread, and with it the runtime that it becomes, into a cgroup
// whose memory is not swapped, where there is one.
func (w wrapper) join() error {
	path := w.private() + "/" + protocol.Join
	if _, err := os.Lstat(path); err != nil {
		return nil
	}
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err == nil {
		_, err = syscall.Write(fd, []byte("0"))
		_ = syscall.Close(fd)
	}
	if err != nil {
		return wrap("keeping the secrets out of swap space; restart purser's agent, which makes the cgroup for it", err)
	}
	return nil
}

// handOver gets the completed document, as descriptor SpecFD. From here on the values
// are in the memory of the runtime.
func (w wrapper) handOver(op byte, bundle string, document []byte) error {
	if err := w.join(); err != nil {
		return err
	}
	fd, err := ask(w.private()+"/"+protocol.Socket, op, w.id, bundle, document)
	if err != nil {
		return err
	}
	if err := syscall.Dup3(fd, protocol.SpecFD, 0); err != nil {
		return wrap("passing on the completed specification", err)
	}
	noCore()
	return nil
}

func absolute(path string) (string, error) {
	if path[0] == '/' {
		return path, nil
	}
	here, err := os.Getwd()
	return here + "/" + path, err
}

// directory is all of a path before its last slash.
func directory(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "."
	}
	return path[:i]
}
