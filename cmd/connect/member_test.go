package main_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/admin"
)

func TestMembers(t *testing.T) {
	f := newFake(t, 3, 1)
	four, five := f.add(t, 4, admin.StateWaiting), f.add(t, 5, admin.StateWaiting)
	one := "--admin=" + f.address(1)

	r := expect(t, 0, "member", "add", four.self.Admin, five.self.Admin, one)
	if r.stdout != "group 1: voters 1 2 3 4 5\n" ||
		!strings.Contains(r.stderr, "group 1: catching up: member 4 lacks 10 entries (2.0 KiB)") {
		t.Errorf("add prints %q and %q", r.stdout, r.stderr)
	}
	r = expect(t, 0, "member", "add", four.self.Admin, five.self.Admin, one)
	if r.stdout != "group 1: voters 1 2 3 4 5\n" || !strings.Contains(r.stderr, "nothing to do") {
		t.Errorf("add prints %q and %q the second time", r.stdout, r.stderr)
	}
	r = expect(t, 0, "member", "remove", "1", "2", "--json", one)
	if m := decode[admin.Membership](t, r.stdout); len(m.Voters) != 3 || m.Voters[0].ID != 3 {
		t.Errorf("remove prints %q", r.stdout)
	}
	six := f.add(t, 6, admin.StateWaiting)
	three := "--admin=" + f.address(3)
	expect(t, 0, "member", "add", "--learner", six.self.Admin, three)
	r = expect(t, 0, "member", "list", three)
	rows := lines(r.stdout)
	if len(rows) != 5 || !strings.HasPrefix(rows[4], "6   learner  127.0.0.1:106") {
		t.Errorf("list prints %q", r.stdout)
	}
	expect(t, 0, "member", "promote", "6", three)
	seven := f.add(t, 7, admin.StateWaiting)
	expect(t, 0, "member", "replace", "3="+seven.self.Admin, "--admin="+f.address(4))
	if got := f.voters(1); got != "[4 5 6 7]" {
		t.Errorf("the voters are %s", got)
	}
	// Member 5 has moved.
	f.set(func() { five.self.Peer = "127.0.0.1:999" })
	expect(t, 0, "member", "readdress", five.self.Admin, "--admin="+f.address(4))
	r = expect(t, 0, "member", "list", "--json", "--admin="+f.address(4))
	if m := decode[admin.Membership](t, r.stdout); !slices.Contains(m.Voters, five.self) {
		t.Errorf("list prints %q", r.stdout)
	}
}

// A node joins the first group before any other, and leaves it after all others.
func TestOrderOfGroups(t *testing.T) {
	f := newFake(t, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	four := f.add(t, 4, admin.StateWaiting)
	r := expect(t, 0, "member", "replace", "1="+four.self.Admin, "--admin="+f.address(2))
	asked := f.changes()
	if len(asked) != 11 || asked[0] != "group 1 add [4] learn [] promote [] remove [] readdress []" ||
		asked[10] != "group 1 add [] learn [] promote [] remove [1] readdress []" ||
		!slices.Contains(asked, "group 7 add [4] learn [] promote [] remove [1] readdress []") {
		t.Errorf("changes: %s", strings.Join(asked, "\n"))
	}
	if !strings.HasSuffix(r.stdout, "and 2 other groups\n") {
		t.Errorf("replace prints %q", r.stdout)
	}
	for g := range uint64(10) {
		g++
		if got := f.voters(g); got != "[2 3 4]" {
			t.Errorf("the voters of group %d are %s", g, got)
		}
	}
	expect(t, 0, "member", "remove", "4", "--group=5", "--admin="+f.address(2))
	if asked = f.changes(); len(asked) != 1 || f.voters(5) != "[2 3]" {
		t.Errorf("changes: %s", strings.Join(asked, "\n"))
	}
}

// What passes is tried again: another change, an election, a node that goes away.
func TestChangesAreTriedAgain(t *testing.T) {
	for name, disturb := range map[string]func(attempt int) (*admin.Error, bool, bool){
		"another change is under way": func(attempt int) (*admin.Error, bool, bool) {
			if attempt < 3 {
				return &admin.Error{Message: "wait", Kind: admin.KindPending, Outcome: admin.NotDone}, false,
					false
			}
			return nil, false, false
		},
		"the connection ends, and nothing was done": func(attempt int) (*admin.Error, bool, bool) {
			return nil, attempt < 3, false
		},
		"the connection ends, and it was done": func(attempt int) (*admin.Error, bool, bool) {
			return nil, attempt == 1, true
		},
	} {
		f := newFake(t, 3, 1)
		four := f.add(t, 4, admin.StateWaiting)
		attempt := 0
		f.disturb(func(string) *admin.Error {
			attempt++
			e, _, _ := disturb(attempt)
			return e
		}, func(string) (bool, bool) {
			_, cut, done := disturb(attempt)
			return cut, done
		})
		expect(t, 0, "member", "replace", "2="+four.self.Admin, "--admin="+f.address(1))
		if got := f.voters(1); got != "[1 3 4]" {
			t.Errorf("%s: the voters are %s", name, got)
		}
	}
}

func TestChangesThatFail(t *testing.T) {
	f := newFake(t, 3, 1)
	one := "--admin=" + f.address(1)
	four := f.add(t, 4, admin.StateWaiting)
	serves := f.add(t, 9, admin.StateServing)
	stranger := newFake(t, 1, 1)
	stranger.set(func() { stranger.cluster = "another" })
	refused, removed := f.add(t, 3, admin.StateRefused), f.add(t, 8, admin.StateRemoved)
	f.set(func() { refused.reason, removed.reason = "another directory", "was removed" })
	f.disturb(func(string) *admin.Error {
		return &admin.Error{Message: "never like this", Kind: admin.KindInvalid, Outcome: admin.NotDone}
	}, nil)
	for _, test := range []struct {
		code int
		say  string
		args []string
	}{
		{1, "never like this", []string{"member", "add", four.self.Admin, one}},
		{1, "another directory", []string{"member", "add", refused.self.Admin, one}},
		{1, "was removed", []string{"member", "add", removed.self.Admin, one}},
		{1, "it does not wait to be added", []string{"member", "add", serves.self.Admin, "--timeout=1s",
			one}},
		{1, `for the cluster "another", not "test"`, []string{"member", "add", stranger.address(1), one}},
		{1, "nobody would be left", []string{"member", "remove", "1", "2", "3", one}},
		{1, "no group has", []string{"member", "promote", "9", one}},
		{1, "no group has", []string{"member", "replace", "9=" + four.self.Admin, one}},
		{1, "is member 4 itself", []string{"member", "replace", "4=" + four.self.Admin, one}},
		{1, "start it, with join = true", []string{"member", "add", "127.0.0.1:1", "--timeout=1s", one}},
		{1, "no member answers", []string{"member", "remove", "1", "--admin=127.0.0.1:1"}},
		{1, "group 9 runs on no member", []string{"member", "list", "--group=9", one}},
		{2, "want host:port", []string{"member", "add", "4", one}},
		{2, "want the id of a member", []string{"member", "remove", "one", one}},
		{2, "such as 3=127.0.0.1:7204", []string{"member", "replace", "3", one}},
		{2, "at least 1 arg", []string{"member", "remove", one}},
		{2, "unknown command", []string{"member", "frobnicate"}},
		{2, "--timeout 0s", []string{"member", "list", "--timeout=0s", one}},
		{2, "--admin HOST:PORT", []string{"member", "list"}},
	} {
		if r := expect(t, test.code, test.args...); !strings.Contains(r.stderr, test.say) {
			t.Errorf("connect %s says %q, want %q", strings.Join(test.args, " "), r.stderr, test.say)
		}
	}
	// The leader has asked everybody for an election timeout: that is an answer.
	asked := 0
	f.disturb(func(string) *admin.Error {
		asked++
		return &admin.Error{Message: "silent: [2]", Kind: admin.KindNoQuorum, Outcome: admin.NotDone}
	}, nil)
	if r := expect(t, 1, "member", "remove", "3", one); asked != 1 ||
		!strings.Contains(r.stderr, "silent: [2]") {
		t.Errorf("asked %d times, and says %q", asked, r.stderr)
	}
	// Nobody ever says how it ended.
	f.disturb(nil, func(string) (bool, bool) { return true, false })
	r := expect(t, 3, "member", "remove", "3", "--timeout=1s", one)
	if !strings.Contains(r.stderr, "give the same command again") {
		t.Errorf("remove says %q", r.stderr)
	}
	f.disturb(func(string) *admin.Error {
		return &admin.Error{Message: "wait", Kind: admin.KindPending, Outcome: admin.NotDone}
	}, nil)
	expect(t, 1, "member", "remove", "3", "--timeout=1s", one)
}

// A node that was removed and runs on knows neither who the members are now nor which groups were
// removed since; nobody goes by what it says, and nothing is asked of it.
func TestRemovedNodesAreNotGoneBy(t *testing.T) {
	f := newFake(t, 4, 1, 2)
	forsaken := f.add(t, 9, admin.StateRemoved)
	f.set(func() {
		forsaken.reason = "node: removed"
		forsaken.own = map[uint64]*admin.Membership{
			1: {Group: 1, Version: 1, Voters: []admin.Member{f.nodes[1].self}},
			7: {Group: 7, Version: 1, Voters: []admin.Member{f.nodes[1].self}},
		}
		f.groups[1].Version = 2
	})
	both := "--admin=" + forsaken.self.Admin + "," + f.address(3)
	expect(t, 0, "member", "remove", "4", both)
	if one, two := f.voters(1), f.voters(2); one != "[1 2 3]" || two != "[1 2 3]" {
		t.Errorf("the voters are %s and %s", one, two)
	}
	if r := expect(t, 0, "group", "list", both); len(lines(r.stdout)) != 3 {
		t.Errorf("list prints %q", r.stdout)
	}
	only := "--admin=" + forsaken.self.Admin
	f.set(func() { forsaken.own = map[uint64]*admin.Membership{} })
	if r := expect(t, 1, "group", "list", only); !strings.Contains(r.stderr, "node: removed") {
		t.Errorf("list says %q", r.stderr)
	}
}

// A group that every member denies is a mistake, and no reason to wait.
func TestChangeOfNoGroup(t *testing.T) {
	f := newFake(t, 3, 1)
	r := expect(t, 1, "member", "remove", "3", "--group=77", "--admin="+f.address(1))
	if !strings.Contains(r.stderr, "group 77: it runs on no member") {
		t.Errorf("remove says %q", r.stderr)
	}
}
