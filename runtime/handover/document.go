package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/purserd/purser/runtime/handover/protocol"
)

// Documents are edited field by field: what this build does not know of is passed
// on as it stands.
type object map[string]json.RawMessage

// Spec completes a container's specification with variables, each NAME=value,
// which take the place of others of their names.
func Spec(env []string, r Installed) Complete {
	return func(document []byte, bundle string) ([]byte, error) {
		var spec object
		if err := json.Unmarshal(document, &spec); err != nil {
			return nil, fmt.Errorf("reading it: %w", err)
		}
		defer spec.wipe()
		for _, edit := range []func() error{
			func() error { return spec.edit("process", func(process object) error { return process.addEnv(env) }) },
			func() error { return spec.edit("annotations", dropToken) },
			func() error { return spec.edit("root", func(root object) error { return root.resolvePath(bundle) }) },
			func() error { return redirectHooks(spec, r.Path, bundle) },
		} {
			if err := edit(); err != nil {
				return nil, err
			}
		}
		return json.Marshal(spec)
	}
}

// Process completes the process of an exec in the same way.
func Process(env []string) Complete {
	return func(document []byte, _ string) ([]byte, error) {
		var process object
		if err := json.Unmarshal(document, &process); err != nil {
			return nil, fmt.Errorf("reading it: %w", err)
		}
		if process == nil {
			return nil, errors.New("it is empty")
		}
		defer process.wipe()
		if err := process.addEnv(env); err != nil {
			return nil, err
		}
		return json.Marshal(process)
	}
}

// edit changes an object that is a field; without the field it does nothing.
func (o object) edit(field string, change func(object) error) error {
	if o[field] == nil {
		return nil
	}
	var inner object
	if err := json.Unmarshal(o[field], &inner); err != nil {
		return fmt.Errorf("reading its %s: %w", field, err)
	}
	if inner == nil {
		return nil // null
	}
	defer inner.wipe()
	if err := change(inner); err != nil {
		return err
	}
	return o.set(field, inner)
}

// wipe clears the fields once they have been written elsewhere.
func (o object) wipe() {
	for _, field := range o {
		clear(field)
	}
}

func (o object) set(field string, value any) (err error) {
	o[field], err = json.Marshal(value)
	return err
}

// addEnv puts variables in, sorted by name, and takes the token out.
func (o object) addEnv(env []string) error {
	var present []string
	if o["env"] != nil {
		if err := json.Unmarshal(o["env"], &present); err != nil {
			return fmt.Errorf("reading its environment: %w", err)
		}
	}
	replaced := map[string]bool{protocol.EnvToken: true}
	for _, v := range env {
		replaced[variable(v)] = true
	}
	kept := slices.DeleteFunc(present, func(v string) bool { return replaced[variable(v)] })
	all := append(kept, env...)
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(variable(a), variable(b)) })
	return o.set("env", all)
}

// variable is the name in NAME=value.
func variable(assignment string) string {
	name, _, _ := strings.Cut(assignment, "=")
	return name
}

func dropToken(annotations object) error {
	delete(annotations, protocol.Annotation)
	return nil
}

// resolvePath makes a path absolute that is relative to the bundle.
func (o object) resolvePath(bundle string) error {
	var path string
	if err := json.Unmarshal(o["path"], &path); err != nil {
		return fmt.Errorf("reading the path of its root: %w", err)
	}
	if filepath.IsAbs(path) {
		return nil
	}
	return o.set("path", filepath.Join(bundle, path))
}

// redirectHooks has each hook that is run on the node go through the wrapper, which
// shows it the container's own bundle: that which the runtime was given is shared
// and leads to nothing. startContainer hooks are run inside, where neither is.
func redirectHooks(spec object, wrapper, bundle string) error {
	if spec["hooks"] == nil {
		return nil
	}
	var hooks map[string][]object
	if err := json.Unmarshal(spec["hooks"], &hooks); err != nil {
		return fmt.Errorf("reading its hooks: %w", err)
	}
	for kind, list := range hooks {
		if kind == "startContainer" {
			continue
		}
		for _, hook := range list {
			if err := hook.redirect(wrapper, bundle); err != nil {
				return err
			}
		}
	}
	return spec.set("hooks", hooks)
}

// redirect has a hook go through the wrapper.
func (o object) redirect(wrapper, bundle string) error {
	if o == nil {
		return nil // null, which is for the runtime to refuse
	}
	var h specs.Hook
	if err := errors.Join(o.get("path", &h.Path), o.get("args", &h.Args)); err != nil {
		return fmt.Errorf("reading a hook: %w", err)
	}
	if len(h.Args) == 0 {
		h.Args = []string{h.Path}
	}
	args := append([]string{wrapper, protocol.HookCommand, bundle, h.Path}, h.Args...)
	return errors.Join(o.set("path", wrapper), o.set("args", args))
}

func (o object) get(field string, into any) error {
	if o[field] == nil {
		return nil
	}
	return json.Unmarshal(o[field], into)
}

// token finds the token in a request's document.
func (r request) token() (string, error) {
	switch r.op {
	case protocol.OpCreate:
		var spec struct {
			Annotations map[string]string `json:"annotations"`
		}
		if err := json.Unmarshal(r.document, &spec); err != nil {
			return "", fmt.Errorf("reading the specification of container %s: %w", r.id, err)
		}
		return spec.Annotations[protocol.Annotation], nil
	case protocol.OpExec:
		var process struct {
			Env []string `json:"env"`
		}
		if err := json.Unmarshal(r.document, &process); err != nil {
			return "", fmt.Errorf("reading a process of container %s: %w", r.id, err)
		}
		// The agent has put it last; whoever runs the command may have set one, too.
		for _, v := range slices.Backward(process.Env) {
			if token, ok := strings.CutPrefix(v, protocol.EnvToken+"="); ok {
				return token, nil
			}
		}
		return "", nil
	}
	return "", &refusal{fmt.Sprintf("the wrapper asks for something unknown (%d)", r.op)}
}
