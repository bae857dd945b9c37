package main_test

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/connectraft/connect/internal/admin"
	"github.com/connectraft/connect/internal/proctest"
)

func TestTransferAndDrain(t *testing.T) {
	f := newFake(t, 3, 1)
	one := "--admin=" + f.address(1)
	if r := expect(t, 0, "transfer", "2", one); r.stdout != "group 1: member 2 leads\n" {
		t.Errorf("transfer prints %q", r.stdout)
	}
	expect(t, 0, "transfer", "2", one) // is so already
	if asked := f.changes(); len(asked) != 1 {
		t.Errorf("asked for %q", asked)
	}
	r := expect(t, 0, "drain", "2", "--json", one)
	asked := f.changes()
	if r.stdout != "{\"done\":true}\n" || !slices.Equal(asked, []string{"drain of 2"}) {
		t.Errorf("drain prints %q; asked for %q", r.stdout, asked)
	}
	expect(t, 1, "transfer", "9", one)
	expect(t, 1, "drain", "9", one)
	expect(t, 2, "transfer", "two", one)

	f.disturb(nil, func(string) (bool, bool) { return true, true }) // done, and nobody says so
	expect(t, 0, "transfer", "1", one)
	expect(t, 3, "drain", "1", one)
	f.disturb(nil, func(string) (bool, bool) { return true, false })
	expect(t, 3, "transfer", "3", "--timeout=5s", one) // in one a busy machine asks nobody twice
	f.disturb(func(string) *admin.Error {
		return &admin.Error{Message: "it is behind", Kind: admin.KindInvalid, Outcome: admin.NotDone}
	}, nil)
	if r := expect(t, 1, "transfer", "3", one); !strings.Contains(r.stderr, "it is behind") {
		t.Errorf("transfer says %q", r.stderr)
	}
	expect(t, 1, "drain", "1", one)
}

func TestGroups(t *testing.T) {
	f := newFake(t, 3, 1)
	one := "--admin=" + f.address(1)
	expect(t, 0, "group", "create", "2", "7", one)
	r := expect(t, 0, "group", "list", one)
	rows := lines(r.stdout)
	if len(rows) != 4 || !strings.HasPrefix(rows[3], "7      1       7     12 ") ||
		!strings.Contains(rows[3], "1 2 3") {
		t.Errorf("list prints %q", r.stdout)
	}
	expect(t, 0, "group", "remove", "2", one)
	var groups []uint64
	for _, line := range lines(expect(t, 0, "group", "list", "--json", one).stdout) {
		groups = append(groups, decode[struct{ Group uint64 }](t, line).Group)
	}
	if !slices.Equal(groups, []uint64{1, 7}) {
		t.Errorf("the groups are %d", groups)
	}
	f.set(func() { f.leader = 9 })
	if r := expect(t, 1, "group", "list", one); !strings.Contains(r.stdout, "no leader") {
		t.Errorf("list prints %q", r.stdout)
	}
	f.disturb(func(string) *admin.Error {
		return &admin.Error{Message: "the id was removed", Kind: admin.KindInvalid,
			Outcome: admin.NotDone}
	}, nil)
	if r := expect(t, 1, "group", "create", "2", one); !strings.Contains(r.stderr, "was removed") {
		t.Errorf("create says %q", r.stderr)
	}
}

func TestEvents(t *testing.T) {
	f := newFake(t, 2, 1)
	for _, as := range []string{"text", "json"} {
		cmd := exec.Command(os.Getenv(binaryVariable), "events", "--admin="+f.address(1),
			"--json="+map[string]string{"text": "false", "json": "true"}[as])
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		heard := map[uint64]int{}
		in := bufio.NewScanner(out)
		for len(heard) < 2 && in.Scan() {
			if as == "json" {
				heard[decode[admin.Event](t, in.Text()).Node]++
				continue
			}
			for id, want := range map[uint64]string{
				1: " node 1 group 1 leader_changed peer 1 term 7: as told",
				2: " node 2 group 1 leader_changed peer 1 term 7: as told"} {
				if strings.HasSuffix(in.Text(), want) {
					heard[id]++
				}
			}
		}
		if len(heard) != 2 {
			t.Errorf("%s: heard %v", as, heard)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for in.Scan() {
		}
		if code := proctest.ExitCode(cmd.Wait()); code != 0 {
			t.Errorf("%s: exit code %d after SIGTERM", as, code)
		}
	}
	expect(t, 1, "events", "--admin=127.0.0.1:1")
}
