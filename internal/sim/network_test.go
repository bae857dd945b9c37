package sim_test

import (
	"bytes"
	"errors"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/transport"
)

// network carries frames between processes as package transport does: two lanes to each peer, a
// stream of its own for each snapshot, and PeerLost on both sides when something was lost. In half
// of the runs it is worse than TCP and drops, repeats and reorders raft messages one by one.
type network struct {
	w     *world
	cut   [][]int      // from, to: how many faults let nothing pass
	clog  [][]int64    // from, to: nothing arrives before
	last  [][][2]int64 // from, to, lane: when the newest frame of a stream arrives
	quiet bool         // no loss by chance

	frames []*frame // that are free
}

const (
	laneUrgent = 0
	laneBulk   = 1
)

var errNotConnected = errors.New("sim: not connected")

func newNetwork(w *world, hosts int) *network {
	n := &network{w: w}
	for range hosts + 1 {
		n.cut = append(n.cut, make([]int, hosts+1))
		n.clog = append(n.clog, make([]int64, hosts+1))
		n.last = append(n.last, make([][2]int64, hosts+1))
	}
	return n
}

// disconnect takes the connections of a process that died.
func (n *network) disconnect(id uint64) {
	for _, h := range n.w.hosts {
		if h.id != id {
			n.lose(h.id, id)
		}
	}
}

// lose has a process learn some time later that a connection to a peer has broken.
func (n *network) lose(at, peer uint64) {
	p := n.w.host(at).proc
	if p == nil || p.lost[peer] {
		return
	}
	p.lost[peer] = true
	p.after(n.w.between(0, 500*time.Millisecond), func() {
		p.lost[peer] = false
		p.peerLost(peer)
	})
}

// sendRaft is Transport.SendRaft: the messages pass the real encoding.
func (n *network) sendRaft(from *process, to, group uint64, messages []*pb.Message) {
	for lane := range 2 {
		if n.w.plan.config.streams {
			if some := onLane(lane, messages); len(some) > 0 {
				n.sendFrame(from, to, group, lane, some)
			}
			continue
		}
		for i, m := range messages {
			if laneOf(m) == lane {
				n.sendFrame(from, to, group, lane, messages[i:i+1])
			}
		}
	}
}

// laneOf is transport.isUrgent.
func laneOf(m *pb.Message) int {
	if t := m.GetType(); t == pb.MsgApp || t == pb.MsgProp {
		return laneBulk
	}
	return laneUrgent
}

// onLane returns those of the messages that take a lane, in their order.
func onLane(lane int, messages []*pb.Message) (some []*pb.Message) {
	count := 0
	for _, m := range messages {
		if laneOf(m) == lane {
			count++
		}
	}
	if count == len(messages) {
		return messages
	}
	for _, m := range messages {
		if laneOf(m) == lane {
			some = append(some, m)
		}
	}
	return some
}

func (n *network) sendFrame(from *process, to, group uint64, lane int, messages []*pb.Message) {
	payload, err := transport.EncodeMessages(messages)
	if err != nil {
		n.w.violated("gate", "node %d sends what cannot be sent: %v", from.h.id, err)
	}
	sender := from.h.id
	copies := 1
	c := &n.w.plan.config
	if !c.streams && !n.quiet && n.w.rng.network.IntN(1000) < c.duplicates {
		copies = 2
	}
	for range copies {
		target, arrival := n.route(from, to, lane, !c.streams)
		if target == nil {
			continue
		}
		f := n.newFrame()
		f.target, f.sender, f.group, f.payload = target, sender, group, payload
		if copies > 1 {
			f.payload = bytes.Clone(payload)
		}
		n.w.at(arrival, f.arrives)
	}
}

// frame is raft messages of a group on their way. Its memory is used again when it was delivered.
type frame struct {
	n             *network
	target        *process
	sender, group uint64
	payload       []byte

	arrives, delivers func() // arrive and deliver
}

func (n *network) newFrame() *frame {
	if last := len(n.frames) - 1; last >= 0 {
		f := n.frames[last]
		n.frames = n.frames[:last]
		return f
	}
	f := &frame{n: n}
	f.arrives, f.delivers = f.arrive, f.deliver
	return f
}

func (f *frame) arrive() {
	if f.n.reaches(f.sender, f.target) {
		f.target.perform(f.delivers)
	}
}

func (f *frame) deliver() {
	n, p, sender, group := f.n, f.target, f.sender, f.group
	n.w.trace.note("frame", p.h.id, group, sender, hashBytes(f.payload))
	decoded, err := transport.DecodeMessages(f.payload, 64<<20)
	if err != nil {
		n.w.violated("gate", "a frame of node %d is not decoded: %v", sender, err)
	}
	f.target, f.payload = nil, nil
	n.frames = append(n.frames, f)
	if n.w.trace.out != nil {
		for _, m := range decoded {
			n.w.trace.say("n%d g%d <- n%d %s", p.h.id, group, sender, describe(m))
		}
	}
	p.group(group).postMessages(sender, decoded)
}

// sendRequest is Transport.Send: an error means that nothing was sent.
func (n *network) sendRequest(from *process, to uint64, deliver func(*process)) error {
	h := n.w.host(to)
	if h.proc == nil && n.w.rng.network.IntN(2) == 0 {
		return errNotConnected
	}
	n.carry(from, to, laneBulk, deliver)
	return nil
}

// carry takes a frame of a stream from one process to another, if it arrives.
func (n *network) carry(from *process, to uint64, lane int, deliver func(*process)) {
	sender := from.h.id
	target, arrival := n.route(from, to, lane, false)
	if target == nil {
		return
	}
	n.w.at(arrival, func() {
		if n.reaches(sender, target) {
			target.take(deliver)
		}
	})
}

// route returns to which process a frame goes and when it arrives there; nil when it is lost. Frames
// of a stream arrive in order; loose ones do not, and are lost one by one.
func (n *network) route(from *process, to uint64, lane int, loose bool) (*process, int64) {
	target, sender := n.w.host(to).proc, from.h.id
	c := &n.w.plan.config
	if from.refused[to] || target != nil && target.refused[sender] {
		n.refuse(from, target)
		return nil, 0
	}
	lost := target == nil || n.cut[sender][to] > 0
	if !lost && !n.quiet && n.w.rng.network.IntN(1000) < c.losses {
		lost = true
		if loose {
			return nil, 0 // without anybody learning of it
		}
	}
	if lost {
		n.lose(sender, to)
		n.lose(to, sender)
		return nil, 0
	}
	arrival := max(n.w.now+int64(n.delay()), n.clog[sender][to])
	if !loose {
		arrival = max(arrival, n.last[sender][to][lane]+1)
		n.last[sender][to][lane] = arrival
	}
	return target, arrival
}

// reaches reports whether a frame that has crossed the network finds its process; both sides learn
// of a frame that does not.
func (n *network) reaches(sender uint64, target *process) bool {
	to := target.h.id
	if target.dead || n.cut[sender][to] > 0 {
		n.lose(sender, to)
		n.lose(to, sender)
		return false
	}
	return true
}

// refuse has one of two processes that is no member any more, as the other one knows, learn of it
// when they try to connect.
func (n *network) refuse(a, b *process) {
	tell := func(by, whom *process) {
		if by != nil && whom != nil && by.refused[whom.h.id] && n.cut[by.h.id][whom.h.id] == 0 {
			whom.after(n.delay(), func() { whom.refusedBy(by.h.id) })
		}
	}
	tell(a, b)
	tell(b, a)
}

// delay of a frame: short as a rule, sometimes long.
func (n *network) delay() time.Duration {
	c := &n.w.plan.config
	d := c.delayMin + time.Duration(n.w.rng.network.Int64N(int64(c.delaySpread)+1))
	if !n.quiet && n.w.rng.network.IntN(100) < c.slowPercent {
		d *= 20
	}
	return d
}

// sendSnapshot is Transport.SendSnapshot: done is told whether the receiver has the body and the
// message.
func (n *network) sendSnapshot(from *process, to, group uint64, m *pb.Message, body *snapshot,
	done func(error)) {
	payload, err := transport.EncodeMessages([]*pb.Message{m})
	if err != nil {
		n.w.violated("gate", "node %d sends what cannot be sent: %v", from.h.id, err)
	}
	sender, target := from.h.id, n.w.host(to).proc
	copied := *body
	copied.members = proto.CloneOf(body.members)
	took := n.w.between(5*time.Millisecond, 200*time.Millisecond)
	var arrive func()
	arrive = func() {
		if target == nil || target.dead || n.cut[sender][to]+n.cut[to][sender] > 0 ||
			!n.quiet && n.w.rng.network.IntN(20) == 0 {
			from.after(n.delay(), func() { done(errNotConnected) })
			return
		}
		if until := target.h.pausedUntil; until > n.w.now {
			n.w.at(until, arrive) // it may be dead by then, and the sender must learn of that
			return
		}
		decoded, err := transport.DecodeMessages(payload, 64<<20)
		if err == nil {
			err = target.group(group).snaps.receive(sender, decoded[0], &copied)
		}
		from.after(n.delay(), func() { done(err) })
	}
	n.w.at(max(n.w.now+int64(took), n.clog[sender][to]), arrive)
}
