package children_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/connectraft/connect/internal/children"
)

// role has the test binary be the parent that is killed.
const role = "CONNECT_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(role) != "" {
		parent()
	}
	goleak.VerifyTestMain(m)
}

// parent starts a process, tells its id and waits to be killed.
func parent() {
	command := exec.Command("sleep", "600")
	if err := children.New().Start(command); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(command.Process.Pid)
	_ = command.Wait()
}

// TestChildrenEndWithTheirParent kills a process with SIGKILL: what it has started ends too.
func TestChildrenEndWithTheirParent(t *testing.T) {
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), role+"=1")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(line)
	}
	if !runs(child) {
		t.Fatal("the child does not run")
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	for deadline := time.Now().Add(10 * time.Second); runs(child); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its parent", child)
		}
		time.Sleep(10 * time.Millisecond) // the pace of the poll
	}
}

// runs reports whether a process is there and no mere remainder that nobody waits for.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

// TestProcessesGoOnWhileTheStarterLives has a thread that ends ask for a process.
func TestProcessesGoOnWhileTheStarterLives(t *testing.T) {
	s := children.New()
	command := exec.Command("sleep", "0.2")
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and no more: the thread ends with the goroutine
		started <- s.Start(command)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("the process ended early: %v", err)
	}
	s.Close()
}
