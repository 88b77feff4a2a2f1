package audit

import "os"

// WithSync returns the options with another way to sync a file.
func (o Options) WithSync(sync func(*os.File) error) Options {
	o.sync = sync
	return o
}

// Seal seals the head without waiting for Options.Interval to be over.
func (l *Log) Seal() error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	return l.flush()
}
