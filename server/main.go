package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes of a program that calls Main.
const (
	exitFailure = 1 // it could not start, or could not go on
	exitConfig  = 2 // the command line or the configuration is wrong; nothing was started
)

// Main is the whole of a program that serves one service. It reads the flags
//
//	-config FILE  the cluster file; else $CONNECT_CONFIG, else cluster.toml
//	-id N         the node to be; else $CONNECT_NODE_ID, else the file's
//	-data DIR     its data directory; else $CONNECT_NODE_DATA, else the file's
//	-version      prints the version and exits
//
// and serves until SIGTERM or SIGINT, when it finishes what is in flight. It logs to stderr and
// does not return: it exits with 0 after a signal, 1 after a failure, and 2, having started
// nothing, when the flags or the configuration are wrong, with every problem of them on stderr.
func Main(service Service) {
	// The signals are caught before anything is started, and a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[0], os.Args[1:], service, os.Stdout, os.Stderr))
}

func run(ctx context.Context, name string, args []string, service Service,
	stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", "", "cluster `file` (default $CONNECT_CONFIG or cluster.toml)")
	id := flags.String("id", "", "`number` of this node (default $CONNECT_NODE_ID or the file's)")
	data := flags.String("data", "", "data `directory` (default $CONNECT_NODE_DATA or the file's)")
	version := flags.Bool("version", false, "print the version and exit")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && flags.NArg() > 0:
		_, _ = fmt.Fprintf(stderr, "%s: unexpected argument %q\n", name, flags.Arg(0))
		return exitConfig
	case err != nil:
		return exitConfig
	case *version:
		_, _ = fmt.Fprintln(stdout, buildVersion())
		return 0
	}
	cfg, err := loadConfig(*file, *id, *data)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		if *file == "" && errors.Is(err, fs.ErrNotExist) {
			_, _ = fmt.Fprintf(stderr, "%s: name the cluster file with -config or $CONNECT_CONFIG\n", name)
		}
		return exitConfig
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	if err := Run(ctx, cfg, service, logger); err != nil {
		logger.Error("stopped", "error", err)
		return exitFailure
	}
	return 0
}
