// Command stoa is the whole product: server, worker processes and tools.
package main

import (
	"os"

	"stoa/internal/cli"
)

func main() { os.Exit(cli.Run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)) }
