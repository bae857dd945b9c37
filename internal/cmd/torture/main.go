// Torture breaks a real cluster on purpose and judges what its clients saw. scripts/torture.sh builds
// it and the service under torture.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/connectraft/connect/internal/torture"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(int(run(ctx)))
}

func run(ctx context.Context) torture.Verdict {
	program := flag.String("program", "", "binary of example/kv; scripts/torture.sh sets it")
	command := flag.String("command", "", "binary of cmd/connect; scripts/torture.sh sets it")
	duration := flag.Duration("duration", 45*time.Second, "how long faults are made")
	seed := flag.Uint64("seed", 0, "of the faults and their order; 0 draws one")
	nodes := flag.Int("nodes", 3, "size of the cluster, 3 to 5")
	flag.Parse()
	if *program == "" || *command == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "torture: run scripts/torture.sh, which knows the programs")
		return torture.Inconclusive
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	dir, err := os.MkdirTemp("", "connect-torture-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return torture.Inconclusive
	}
	fmt.Printf("seed %d, %d nodes, %v\n", *seed, *nodes, *duration)
	verdict, err := torture.Run(ctx, torture.Options{Program: *program, Command: *command,
		Dir: dir, Nodes: *nodes, Duration: *duration, Seed: *seed, Out: os.Stdout})
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		if verdict == torture.Valid {
			return torture.Inconclusive
		}
	}
	if verdict == torture.Valid {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return verdict
}
