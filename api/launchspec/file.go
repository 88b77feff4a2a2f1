package launchspec

import (
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// File is what an app file, or the file of a single spec, says.
type File struct {
	// App is the name of the app.
	App string
	// Environment is empty when the file names none, so that a command line
	// can tell "none" from an explicit dev. See [Environment].
	Environment string
	// Specs are the functions in the order of the file, defaults merged in.
	// Their environment is the file's: absent when the file names none.
	Specs []*purserv1.LaunchSpec
	// Whole tells that the file has functions and so describes the whole
	// app: a function that is not in it is to be removed.
	Whole bool
}
