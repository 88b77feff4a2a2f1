// Image builds a small OCI image from directories and static binaries, without
// a registry, a daemon or root, and writes it as an OCI image layout:
//
//	image -o rag.oci -ref localhost/rag:1.4 -cmd rag -env PATH=/app ./bin/rag:/app/rag
//	purser image import rag.oci
//
// Each argument is SOURCE[:TARGET]. The content of a directory goes to TARGET,
// / unless given; a file becomes TARGET, /NAME unless given. All of it is one
// layer, owned by root. The same input always gives the same image.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "image:", err)
		}
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	output  string
	ref     string
	config  v1.Config
	sources []source
}

// source is a file or directory and where it goes in the image.
type source struct {
	path   string
	target string // absolute; empty: the default for what path is
}

func run(args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	image, err := build(o.config, o.sources)
	if err != nil {
		return err
	}
	if err := writeLayout(o.output, o.ref, image); err != nil {
		return fmt.Errorf("writing the image to %s: %w", o.output, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s %s\n", o.ref, digest)
	return nil
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	o := options{config: v1.Config{Labels: map[string]string{}}}
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.output, "o", "", "write the OCI image layout to this `directory`, which must not exist or be one")
	flags.StringVar(&o.ref, "ref", "", "full `reference` of the image, such as localhost/rag:1.4")
	flags.Func("entrypoint", "append this `word` to the ENTRYPOINT; repeat it for more", appendTo(&o.config.Entrypoint))
	flags.Func("cmd", "append this `word` to the CMD; repeat it for more", appendTo(&o.config.Cmd))
	flags.Func("env", "add the variable `K=V`; repeat it for more", func(kv string) error {
		if i := strings.Index(kv, "="); i < 1 {
			return errors.New("is not K=V")
		}
		o.config.Env = append(o.config.Env, kv)
		return nil
	})
	flags.Func("label", "add the label `K=V`; repeat it for more", func(kv string) error {
		key, value, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return errors.New("is not K=V")
		}
		o.config.Labels[key] = value
		return nil
	})
	flags.StringVar(&o.config.User, "user", "", "`user` to run as: uid, uid:gid or names")
	flags.StringVar(&o.config.WorkingDir, "workdir", "", "absolute `path` of the working directory")
	flags.StringVar(&o.config.StopSignal, "stop-signal", "", "`signal` that asks the program to end")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: image -o DIR -ref REF [flags] SOURCE[:TARGET]...")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	for _, arg := range flags.Args() {
		o.sources = append(o.sources, parseSource(arg))
	}
	return o, o.check()
}

func appendTo(list *[]string) func(string) error {
	return func(word string) error {
		*list = append(*list, word)
		return nil
	}
}

func parseSource(arg string) source {
	from, target, ok := strings.Cut(arg, ":")
	if !ok {
		return source{path: from}
	}
	return source{path: from, target: target}
}

func (o options) check() error {
	switch {
	case o.output == "":
		return errors.New("-o is missing: say where to write the image")
	case o.ref == "":
		return errors.New("-ref is missing: give the image a reference, such as localhost/rag:1.4")
	case len(o.sources) == 0:
		return errors.New("name at least one file or directory to put into the image")
	}
	for _, s := range o.sources {
		if s.target != "" && (!path.IsAbs(s.target) || path.Clean(s.target) != s.target) {
			return fmt.Errorf("target %q is not a clean absolute path", s.target)
		}
	}
	if dir := o.config.WorkingDir; dir != "" && !path.IsAbs(dir) {
		return fmt.Errorf("-workdir: %q is not an absolute path", dir)
	}
	return nil
}

// platform is that of the machine: its binaries are what goes in.
func platform() v1.Platform {
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// in returns where the source goes when it is what info says.
func (s source) in(isDir bool) string {
	switch {
	case s.target != "":
		return s.target
	case isDir:
		return "/"
	}
	return "/" + filepath.Base(s.path)
}
