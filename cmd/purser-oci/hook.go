package main

import (
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/purserd/purser/runtime/handover/protocol"
)

// runHook becomes a hook of a container's, once the state that the hook reads on
// standard input names the container's own bundle, secret-free and complete, in
// place of the one that all containers share. Arguments: that bundle, the hook's
// path, and its argv.
func runHook(args []string) {
	w := wrapper{command: command{at: -1}, home: directory(os.Args[0])}
	if len(args) < 3 {
		w.fail(failure(protocol.HookCommand + " wants a bundle and a hook"))
	}
	bundle, path, argv := args[0], args[1], args[2:]
	// The runtime's own documents are none of the hook's business.
	_ = syscall.Close(protocol.SpecFD)
	state, err := io.ReadAll(os.Stdin)
	if err != nil {
		w.fail(wrap("reading the state for a hook", err))
	}
	if err := replaceStdin(withBundle(string(state), w.private()+"/"+protocol.Bundle, bundle)); err != nil {
		w.fail(wrap("passing the state on to a hook", err))
	}
	w.fail(wrap("executing the hook "+path, syscall.Exec(path, argv, os.Environ())))
}

// withBundle replaces the shared bundle, as a JSON string, by the container's.
func withBundle(state, shared, own string) string {
	// Go's encoders escape what HTML minds.
	escaped := strings.NewReplacer("&", `\u0026`, "<", `\u003c`, ">", `\u003e`).Replace(quote(shared))
	return strings.NewReplacer(quote(shared), quote(own), escaped, quote(own)).Replace(state)
}

// replaceStdin makes text, which must fit into a pipe, what is read next.
func replaceStdin(text string) error {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	const setPipeSize = 1031 // F_SETPIPE_SZ
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(ends[1]), setPipeSize, 1<<20)
	if err := syscall.SetNonblock(ends[1], true); err != nil {
		return err
	}
	if n, err := syscall.Write(ends[1], []byte(text)); err != nil || n < len(text) {
		return failure("the state is longer than a pipe holds")
	}
	if err := syscall.Dup3(ends[0], 0, 0); err != nil {
		return err
	}
	return syscall.Close(ends[1])
}
