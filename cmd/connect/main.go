// Connect is the command line of the framework. It shows what a cluster and the log of a node are
// like, and changes a running cluster.
//
//	connect status             the members of a cluster
//	connect member list        and add, promote, remove, replace, readdress
//	connect transfer ID        gives a leadership to a member
//	connect drain ID           takes every leadership from a member
//	connect group list         and create, remove
//	connect events             what happens, as it happens
//	connect wal dump DIR       every frame of a log
//	connect wal verify DIR     whether a log is whole
//	connect wal stat DIR       what a log holds
//	connect version
//
// docs/operations.md shows what they print.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitGood    = 0 // done; the cluster is healthy; the log is whole
	exitBad     = 1 // not done; the cluster is not healthy; the log is damaged
	exitUsage   = 2 // the command line is wrong, or what it names cannot be read
	exitUnknown = 3 // it is not known whether, or how far, it was done
)

// errBad ends a command with exitBad. What is bad has been printed.
var errBad = errors.New("not good")

// exitError ends a command with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// bad is an error that ends a command with exitBad.
func bad(format string, args ...any) error {
	return &exitError{exitBad, fmt.Errorf(format, args...)}
}

func main() {
	// A second signal ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := bufio.NewWriterSize(stdout, 64<<10)
	root := newRoot()
	root.SetArgs(longConfig(args))
	root.SetOut(out)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	err = errors.Join(err, out.Flush())
	switch {
	case err == nil:
		return exitGood
	case errors.Is(err, errBad):
		return exitBad
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", command.CommandPath(), err)
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
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
	root := family("connect", "Look at clusters and at the logs of nodes, and change clusters")
	root.Long = root.Short + `.

Exit codes: 0 done, or healthy, or whole; 1 not done, or not healthy, or damaged; 2 the command line
is wrong, or what it names cannot be read; 3 it is not known whether it was done.`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newStatus(), newMember(), newTransfer(), newDrain(), newGroup(), newEvents(),
		newWAL(), newVersion())
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
