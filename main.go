// Command purser puts functions and their secrets into containers on one
// node, and keeps them there. See package cli for its commands.
package main

import (
	"os"

	"github.com/purserd/purser/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
