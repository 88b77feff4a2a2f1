package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// runTTL is when the agent removes a run whose purser was killed before it
// could.
const runTTL = "10m"

// runFlags are the parts of a launch spec that have a flag.
type runFlags struct {
	image, function  string
	pull, authSecret string
	secrets, env     []string
	secretFiles      []string
	stdin, tty       bool
	detachKeys       string
	timeout, memory  string
	cpu              float64
	devices          []string
	user, workdir    string
	runtime          string
	force            bool
	network          networkFlags
}

func newRun(s *session) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [FILE] [-- COMMAND…]",
		Short: "Run a function in the foreground, with its secrets",
		Long: `Run a job in the foreground, under a fresh ID, and remove it when it is done.
Its standard output and standard error are purser's, and its exit status too:
124 means that its timeout ended it, although it then exited with 0; 125 that
purser failed, 126 that the command cannot be executed, 127 that it was not
found.

FILE is a launch spec, or an app file with --function; flags win over it.
An image that is not on the node is pulled, unless --pull says otherwise.
COMMAND replaces the image's entry point. Signals are passed on; a second
interrupt, or one that has not ended the function within its stop grace,
kills it.

With -t the function has a terminal, as large as the one that purser is on, and
its output is one stream; with -it its keys are the function's, ctrl-c among
them. The detach keys leave it running.`,
		Example: `  purser run -it --image localhost/tools:1 -- sh
  purser run --image localhost/tools:1 -- sh -c 'echo hello'
  purser run --image localhost/tools:1 --secret openai-secret -e MODEL=small -- sh -c 'echo "$MODEL, ${#OPENAI_API_KEY}"'
  purser run --image localhost/tools:1 --secret-file tls=/run/secrets/tls -- sh -c 'cd /run/secrets/tls; echo *'
  purser run rag-qna.yaml --function reindex
  purser run --image localhost/tools:1 -p 8080:80 -- httpd -f
  echo hello | purser run -i --image localhost/tools:1 --memory 256Mi -- sh -c 'read line; echo "got $line"'`,
		Args:        runArgs,
		Annotations: map[string]string{standsInMark: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := parseDetachKeys(f.detachKeys)
			if err != nil {
				return misuse(cmd, err)
			}
			spec, err := s.runSpec(cmd, &f, args)
			if err != nil {
				return notRun(err)
			}
			return notRun(rename(s.run(cmd.Context(), spec, &f, keys), flagOf(cmd)))
		},
	}
	cmd.SetFlagErrorFunc(commandFlagError(0))
	f.add(cmd)
	detachKeysFlag(cmd, &f.detachKeys)
	complete(cmd, "image", s.imageNames)
	complete(cmd, "secret", s.secretNames)
	complete(cmd, "secret-file", s.secretNames)
	complete(cmd, "auth-secret", s.secretNames)
	complete(cmd, "pull", fixed(launchspec.PullIfNotPresent, launchspec.PullAlways, launchspec.PullNever))
	complete(cmd, "network", fixed(launchspec.NetworkBridge, launchspec.NetworkNone, launchspec.NetworkHost))
	return cmd
}

func (f *runFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.image, "image", "", "`REF` of the image")
	flags.StringVar(&f.pull, "pull", "", "when to pull the image: if_not_present, always or never")
	flags.StringVar(&f.authSecret, "auth-secret", "", "`NAME` of a secret with the credentials of the image's registry")
	flags.StringVar(&f.function, "function", "", "`NAME` of the function, when FILE is an app file")
	flags.StringArrayVar(&f.secrets, "secret", nil, "`NAME` of a secret, all of whose keys become variables; repeatable")
	flags.StringArrayVar(&f.secretFiles, "secret-file", nil, "`NAME=DIR`: a secret whose keys become files in a directory of the container, and not variables; repeatable")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "set a variable: `K=V`; repeatable")
	flags.BoolVarP(&f.stdin, "interactive", "i", false, "pass standard input on to the function")
	flags.BoolVarP(&f.tty, "tty", "t", false, "give the function a terminal, as large as this one")
	flags.StringVar(&f.timeout, "timeout", "", "end it after this long (300s, 5m): SIGTERM, then SIGKILL after its stop grace")
	flags.StringVar(&f.memory, "memory", "", "limit of memory: 256Mi, 1Gi")
	flags.Float64Var(&f.cpu, "cpu", 0, "limit of cpu, in cores: 0.5")
	flags.StringArrayVar(&f.devices, "device", nil, "give the function a device of the node, by its CDI `NAME`: nvidia.com/gpu=0; repeatable")
	flags.StringVar(&f.user, "user", "", "run as this user[:group] instead of the image's")
	flags.StringVar(&f.workdir, "workdir", "", "absolute path of the working directory")
	flags.StringVar(&f.network.mode, "network", "", "bridge, none or host; the node's default unless given")
	flags.BoolVar(&f.network.block, "block-network", false, "let the function reach nothing, on a bridge")
	flags.StringArrayVar(&f.network.allowed, "cidr-allowlist", nil, "let the function reach this `CIDR` alone, on a bridge: 10.0.0.0/8 or fd00::/8; repeatable")
	flags.StringArrayVarP(&f.network.publish, "publish", "p", nil, "have a port of the node lead to the function: `[[IP:]HOST:]CONTAINER[/udp]`; repeatable")
	flags.StringVar(&f.runtime, "runtime", "", "`NAME` of an OCI runtime configured on the node")
	flags.BoolVar(&f.force, "force", false, "take a version of a secret that FILE names although it is quarantined")
}

// runArgs allows one file before the --.
func runArgs(cmd *cobra.Command, args []string) error {
	files, _ := splitArgs(cmd, args)
	if len(files) > 1 {
		return fmt.Errorf("unexpected %q: takes one FILE; put the command after --", files[1])
	}
	return nil
}

// splitArgs separates what stands before and after the --.
func splitArgs(cmd *cobra.Command, args []string) (before, after []string) {
	dash := cmd.ArgsLenAtDash()
	if dash < 0 {
		return args, nil
	}
	return args[:dash], args[dash:]
}

// runSpec makes the launch spec of a run from file, flags and command.
func (s *session) runSpec(cmd *cobra.Command, f *runFlags, args []string) (*purserv1.LaunchSpec, error) {
	files, command := splitArgs(cmd, args)
	spec := &purserv1.LaunchSpec{}
	if len(files) == 1 {
		var err error
		if spec, err = s.fileSpec(files[0], f.function, f.image != ""); err != nil {
			return nil, err
		}
	} else if f.function != "" {
		return nil, misuse(cmd, errors.New("--function goes with an app file"))
	}
	if err := f.apply(cmd, spec); err != nil {
		return nil, err
	}
	if len(command) > 0 {
		// What the file gives as args belongs to the command that it gives.
		spec.Command, spec.Args = command, nil
	}
	if spec.GetImage().GetRef() == "" {
		return nil, misuse(cmd, errors.New("no image: give --image REF, or a FILE that names one"))
	}
	s.makeRun(spec)
	return spec, nil
}

// fileSpec reads one function's spec from a file.
func (s *session) fileSpec(path, function string, imageGiven bool) (*purserv1.LaunchSpec, error) {
	file, err := s.readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, hint(err, "%s", fileHint(path, imageGiven))
	}
	if err != nil {
		return nil, err
	}
	if function == "" && len(file.Specs) == 1 {
		return file.Specs[0], nil
	}
	for _, spec := range file.Specs {
		if spec.GetFunction() == function {
			return spec, nil
		}
	}
	names := strings.Join(pluck(file.Specs, (*purserv1.LaunchSpec).GetFunction), ", ")
	if function == "" {
		return nil, fmt.Errorf("%s has several functions; choose one with --function: %s", path, names)
	}
	return nil, fmt.Errorf("%s has no function %s; it has: %s", path, function, names)
}

// imagePattern is what an image's reference looks like.
var imagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._:/-]*(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]+)?$`)

// fileHint is what to do instead of naming a file that does not exist: other
// programs take an image, or a command, in its place.
func fileHint(path string, imageGiven bool) string {
	file := slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path))
	if imageGiven || file || !imagePattern.MatchString(path) {
		return "FILE is a launch spec; to give a command, put it after --"
	}
	return "FILE is a launch spec; for an image: --image " + path
}

// apply puts the flags that were given over the spec.
func (f *runFlags) apply(cmd *cobra.Command, spec *purserv1.LaunchSpec) error {
	given := cmd.Flags().Changed
	if given("image") {
		given := spec.GetImage()
		spec.Image = &purserv1.Image{Ref: proto.String(f.image), Env: given.GetEnv()}
		if given != nil {
			spec.Image.Pull, spec.Image.AuthSecret = given.Pull, given.AuthSecret
		}
	}
	if given("pull") || given("auth-secret") {
		if spec.Image == nil {
			spec.Image = &purserv1.Image{}
		}
		setText(given("pull"), f.pull, &spec.Image.Pull)
		setText(given("auth-secret"), f.authSecret, &spec.Image.AuthSecret)
	}
	vars, err := parseEnv(f.env)
	if err != nil {
		return misuse(cmd, err)
	}
	for key, value := range vars {
		if spec.Env == nil {
			spec.Env = map[string]string{}
		}
		spec.Env[key] = value
	}
	for _, name := range f.secrets {
		spec.Secrets = addSecret(spec.Secrets, name)
	}
	if spec.Secrets, err = addSecretFiles(spec.Secrets, f.secretFiles); err != nil {
		return misuse(cmd, err)
	}
	setText(given("timeout"), f.timeout, &spec.Timeout)
	setText(given("user"), f.user, &spec.User)
	setText(given("workdir"), f.workdir, &spec.Workdir)
	setText(given("runtime"), f.runtime, &spec.Runtime)
	if err := f.network.apply(given, spec); err != nil {
		return misuse(cmd, err)
	}
	f.applyResources(given, spec)
	return nil
}

func (f *runFlags) applyResources(given func(string) bool, spec *purserv1.LaunchSpec) {
	if !given("memory") && !given("cpu") && !given("device") {
		return
	}
	if spec.Resources == nil {
		spec.Resources = &purserv1.Resources{}
	}
	setText(given("memory"), f.memory, &spec.Resources.Memory)
	if given("cpu") {
		spec.Resources.Cpu = proto.Float64(f.cpu)
	}
	for _, name := range f.devices {
		if !slices.Contains(spec.Resources.Devices, name) {
			spec.Resources.Devices = append(spec.Resources.Devices, name)
		}
	}
}

func setText(given bool, value string, field **string) {
	if given {
		*field = proto.String(value)
	}
}

// addSecret adds a reference unless the file has one to the same secret, which
// may say more about it.
func addSecret(refs []*purserv1.SecretRef, name string) []*purserv1.SecretRef {
	for _, ref := range refs {
		if ref.GetName() == name {
			return refs
		}
	}
	return append(refs, &purserv1.SecretRef{Name: proto.String(name)})
}

// addSecretFiles adds each NAME=DIR. A secret that is referred to already keeps its
// variables; another one sets none.
func addSecretFiles(refs []*purserv1.SecretRef, files []string) ([]*purserv1.SecretRef, error) {
	for at, text := range files {
		name, dir, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--secret-file %s: must be NAME=DIR, such as openai-secret=/run/secrets/openai", text)
		}
		i := slices.IndexFunc(refs, func(ref *purserv1.SecretRef) bool { return ref.GetName() == name })
		if i < 0 {
			i = len(refs)
			refs = append(refs, &purserv1.SecretRef{Name: proto.String(name), Env: proto.Bool(false)})
		}
		if refs[i].GetFile().GetPath() != "" && slices.ContainsFunc(files[:at], func(t string) bool { return strings.HasPrefix(t, name+"=") }) {
			return nil, fmt.Errorf("--secret-file %s: secret %s has the directory %s already, and can have one only", text, name, refs[i].GetFile().GetPath())
		}
		refs[i].File = &purserv1.SecretFile{Path: proto.String(dir)}
	}
	return refs, nil
}

// makeRun turns any spec into a job of its own, whatever it was.
func (s *session) makeRun(spec *purserv1.LaunchSpec) {
	fresh := strings.ToLower(rand.Text()[:8])
	spec.Id = proto.String("run/" + fresh)
	if spec.App == nil {
		spec.App = proto.String("run")
	}
	if spec.Function == nil {
		spec.Function = proto.String(fresh)
	}
	if spec.Environment == nil {
		spec.Environment = proto.String(s.environment)
	}
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	spec.Labels[launchspec.LabelOneOff] = "true"
	spec.Kind = proto.String("job")
	spec.Restart = nil // a service's; refused in a job
	if spec.TtlAfterFinished == nil {
		spec.TtlAfterFinished = proto.String(runTTL)
	}
}

// run launches the spec, streams what it writes and returns its status.
func (s *session) run(ctx context.Context, spec *purserv1.LaunchSpec, f *runFlags, keys []byte) error {
	if f.stdin {
		spec.Stdin = proto.Bool(true)
	}
	var t *terminal
	if f.tty {
		var err error
		if t, err = s.openTerminal(keys); err != nil {
			return err
		}
		s.giveTerminal(spec)
	}
	api, err := s.dial()
	if err != nil {
		return err
	}
	r := &foreground{
		session: s, api: api, spec: spec,
		environment: spec.GetEnvironment(), id: spec.GetId(),
		grace: launchspec.StopGrace(spec), stdin: f.stdin, force: f.force,
		terminal: t, left: make(chan struct{}),
	}
	return r.run(ctx)
}

// giveTerminal makes a spec one for this terminal. Its kind comes above what the
// image says and below what the spec does.
func (s *session) giveTerminal(spec *purserv1.LaunchSpec) {
	spec.Tty = proto.Bool(true)
	spec.Retries = nil // who sits at it tries again by hand
	kind, known := s.lookup("TERM")
	if _, specified := spec.GetImage().GetEnv()["TERM"]; !known || kind == "" || specified {
		return
	}
	if spec.Image.Env == nil {
		spec.Image.Env = map[string]string{}
	}
	spec.Image.Env["TERM"] = kind
}
