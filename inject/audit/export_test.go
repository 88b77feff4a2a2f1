package audit

import "os"

// WithSync returns the options with another way to sync a file.
func (o Options) WithSync(sync func(*os.File) error) Options {
	o.sync = sync
	return o
}
