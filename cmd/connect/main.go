// Connect is the command line of the framework: it shows, from outside, what a cluster and the log
// of a node are like. Nothing in it changes anything.
//
//	connect wal dump DIR     every frame of a log
//	connect wal verify DIR   whether a log is whole
//	connect wal stat DIR     what a log holds
//	connect status           the members of a cluster
//	connect version
//
// docs/operations.md shows what they print.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitGood  = 0 // the log is whole; a leader serves
	exitBad   = 1 // the log is damaged; no leader serves
	exitUsage = 2 // the command line is wrong, or what it names cannot be read
)

// errBad ends a command with exitBad. What is bad has been printed.
var errBad = errors.New("not good")

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program but for the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	out := bufio.NewWriterSize(stdout, 64<<10)
	root := newRoot()
	root.SetArgs(longConfig(args))
	root.SetOut(out)
	root.SetErr(stderr)
	command, err := root.ExecuteC()
	err = errors.Join(err, out.Flush())
	switch {
	case err == nil:
		return exitGood
	case errors.Is(err, errBad):
		return exitBad
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", command.CommandPath(), err)
	return exitUsage
}

// longConfig takes -config, as the programs of nodes call it, for --config.
func longConfig(args []string) []string {
	var long []string
	for _, arg := range args {
		if arg == "-config" || strings.HasPrefix(arg, "-config=") {
			arg = "-" + arg
		}
		long = append(long, arg)
	}
	return long
}

func newRoot() *cobra.Command {
	root := family("connect", "Look at clusters and at the logs of nodes")
	root.Long = root.Short + `.

Nothing here changes anything. Exit codes: 0 the log is whole, or a leader serves; 1 the log is
damaged, or no leader serves; 2 the command line is wrong, or what it names cannot be read.`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newWAL(), newStatus(), newVersion())
	return root
}

// family is a command that has only others in it. It takes no word that is none of them.
func family(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q; see %s --help", args[0], c.CommandPath())
			}
			return c.Help()
		}}
}
