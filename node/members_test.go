package node_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/transport"
)

// Two changes that are asked for at once, on different nodes, both finish.
func TestChangesAtOnce(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	four, five := c.join(4), c.join(5)
	var both sync.WaitGroup
	for at, m := range map[uint64]node.Member{1: four, 2: five} {
		g := c.groups[at]
		both.Go(func() {
			_, err := g.Change(background(t), node.Change{Add: []node.Member{m}}, nil)
			if err != nil {
				t.Errorf("adding node %d: %v", m.ID, err)
			}
		})
	}
	both.Wait()
	c.ready()
	c.within("every node knows all of them", func() bool {
		for _, g := range c.groups {
			if m := g.Membership(); len(m.Voters) != 5 || m.Joint {
				return false
			}
		}
		return true
	})
}

// The members of two groups differ: a node that leaves one of them stays connected for the other,
// and knows of which it is a member.
func TestGroupsHaveMembersOfTheirOwn(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	second := map[uint64]*node.Group{}
	start := func(id uint64) {
		g, err := c.nodes[id].StartGroup(2, &sum{})
		if err != nil {
			t.Fatal(err)
		}
		second[id] = g
	}
	for id := range c.nodes {
		start(id)
	}
	four := c.join(4)
	start(4)
	c.change(1, node.Change{Learn: []node.Member{four}})
	m, err := second[1].Change(background(t), node.Change{Add: []node.Member{four}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantMembers(t, m, []uint64{1, 2, 3, 4}, nil)
	wantMembers(t, c.change(1, node.Change{Remove: []uint64{4}}), []uint64{1, 2, 3}, nil)
	c.within("node 4 knows that it left the first group", func() bool {
		return errors.Is(c.groups[4].Ready(), node.ErrRemoved)
	})
	if _, err := second[4].Propose(background(t), number(5)); err != nil {
		t.Errorf("a command of the second group on node 4: %v", err)
	}
	c.within("node 4 serves the second group", func() bool { return second[4].Ready() == nil })
}

// A member that was added and has lost the end of its log asks the members of now, which its
// options do not name.
func TestDamagedMemberAsksTheMembersOfNow(t *testing.T) {
	c := newTestCluster(t, 3, smallSegments)
	c.ready()
	c.change(1, node.Change{Add: []node.Member{c.join(4), c.join(5)}})
	c.ready()
	c.fillSegments()
	c.add(1, 3)
	c.agree()
	c.stop(5)
	c.loseEndOfLog(5)
	// With three of five down the two others cannot tell what node 5 has acknowledged.
	c.stop(2)
	c.stop(3)
	c.start(5)
	c.within("node 5 waits", func() bool {
		err := c.groups[5].Ready()
		return err != nil && strings.Contains(err.Error(), "damaged")
	})
	c.start(2)
	c.start(3)
	c.ready()
	if got := c.agree(); got != 3 {
		t.Errorf("total %d, want 3", got)
	}
}

// Control frames that mean nothing do no harm, and a question that is not known is answered.
func TestControlFramesThatMeanNothing(t *testing.T) {
	_, g, p := underFakeLeader(t)
	frame := func(id uint64, body string) []byte {
		return append(binary.LittleEndian.AppendUint64(nil, id), body...)
	}
	for kind, payloads := range map[byte][][]byte{
		7: {nil, {1, 2}, frame(5, "{"), frame(0, `{"ask":"gone"}`), make([]byte, 1<<20),
			frame(0, `{"ask":"gone","now":{"version":1,"voters":[]}}`)},
		8: {nil, frame(5, "{"), frame(77, `{"code":"unknown"}`)},
	} {
		for _, payload := range payloads {
			if err := p.Send(1, 1, transport.Kind(kind), payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Send(1, 1, 7, frame(9, `{"ask":"dance"}`)); err != nil {
		t.Fatal(err)
	}
	answer := p.next(t)
	var body struct{ Code, Error string }
	if err := json.Unmarshal(answer.payload[8:], &body); err != nil {
		t.Fatal(err)
	}
	if answer.kind != 8 || binary.LittleEndian.Uint64(answer.payload) != 9 ||
		body.Code != "invalid" || !strings.Contains(body.Error, "dance") {
		t.Errorf("answered with kind %d, %q", answer.kind, answer.payload)
	}
	if err := g.Ready(); errors.Is(err, node.ErrRemoved) || g.Status().Failed != "" {
		t.Errorf("the group: %v, %+v", err, g.Status())
	}
}
