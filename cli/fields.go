package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// renamed is an error about fields of a request that the user gave by other
// names.
type renamed struct {
	err error
	// name gives a field's name on the command line; empty when the message
	// stands for itself.
	name func(field string) string
}

func (r *renamed) Error() string { return r.err.Error() }
func (r *renamed) Unwrap() error { return r.err }

// rename names the fields that err is about as the command line does.
func rename(err error, name func(field string) string) error {
	if err == nil {
		return nil
	}
	return &renamed{err: err, name: name}
}

// runFields are the fields of a launch that purser run has a flag for. A field
// that ends with a bracket stands for all behind it.
var runFields = map[string]string{
	"spec.image.ref": "image", "spec.image.pull": "pull", "spec.image.auth_secret": "auth-secret",
	"spec.timeout": "timeout", "spec.resources.memory": "memory",
	"spec.resources.cpu": "cpu", "spec.resources.devices": "device", "spec.resources.devices[": "device", "spec.user": "user", "spec.workdir": "workdir",
	"spec.network.mode": "network", "spec.runtime": "runtime",
	"spec.network.block_network": "block-network", "spec.network.cidr_allowlist": "cidr-allowlist",
	"spec.network.ports[": "publish", "spec.env[": "env", "spec.secrets[": "secret",
}

// flagOf names the flag that a launch's field was given by, if it was.
func flagOf(cmd *cobra.Command) func(field string) string {
	return func(field string) string {
		key, rest := field, ""
		if i := strings.IndexByte(field, '['); i >= 0 {
			key, rest = field[:i+1], " "+strings.Trim(field[i:], "[]")
		}
		flag := runFields[key]
		if strings.Contains(rest, ".file.") {
			flag = "secret-file"
		}
		if flag == "" || !cmd.Flags().Changed(flag) {
			return field
		}
		if strings.HasPrefix(flag, "secret") || flag == "publish" || flag == "device" {
			rest = "" // a place in a list that the user did not see
		}
		return "--" + flag + strings.ReplaceAll(rest, `"`, "")
	}
}
