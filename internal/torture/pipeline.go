package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

const (
	batchMax     = 32
	batchesOnKey = 50
	batchPause   = 30 * time.Millisecond
)

// pipeliner sends batches without waiting for answers in between: writes of 1, 2, 3 and so on to a
// key of its own, and reads of it. Since the commands of a connection take effect in the order in
// which they were sent, a read has to see the last write before it that was acknowledged, or one
// behind that which was sent before the read. A failed batch is the last of its connection and key.
type pipeliner struct {
	node     *process
	findings *findings
	random   *rand.Rand
	keys     int

	conn         *respConn
	key          string
	batches      int
	sent         int          // the last number written
	acknowledged int          // the last number of which that is known
	seen         int          // the largest number read
	refused      map[int]bool // numbers that were surely not written
	failed       bool         // something was not acknowledged
}

// command is one of a batch; number is what it writes, 0 for a read, and before what was sent.
type command struct{ number, before int }

func (p *pipeliner) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.batch(); err != nil || p.failed || p.batches >= batchesOnKey {
			p.last(ctx)
		}
		sleep(ctx, batchPause)
	}
	p.last(ctx)
}

// begin connects and takes a fresh key.
func (p *pipeliner) begin() error {
	conn, err := dialRESP(p.node.client, time.Second)
	if err != nil {
		return err
	}
	p.keys++
	*p = pipeliner{node: p.node, findings: p.findings, random: p.random, keys: p.keys, conn: conn,
		key: fmt.Sprintf("p%d-%d", p.node.number+1, p.keys), refused: map[int]bool{}}
	return nil
}

// batch sends one batch and judges its answers. An error means that the rest is not known.
func (p *pipeliner) batch() error {
	if p.conn == nil {
		if err := p.begin(); err != nil {
			return err
		}
	}
	p.batches++
	var commands []command
	var words [][]string
	for range 1 + p.random.IntN(batchMax) {
		if p.random.IntN(4) == 0 {
			commands = append(commands, command{0, p.sent})
			words = append(words, []string{string(get), p.key})
			continue
		}
		p.sent++
		commands = append(commands, command{p.sent, p.sent})
		words = append(words, []string{string(set), p.key, strconv.Itoa(p.sent)})
	}
	if err := p.conn.send(2*operationTimeout, words...); err != nil {
		p.failed = true
		return err
	}
	for _, c := range commands {
		r, err := readReply(p.conn.r)
		if err != nil {
			p.failed = true
			return err
		}
		p.judge(c, r)
	}
	return nil
}

func (p *pipeliner) judge(c command, r reply) {
	o := respOutcome(r)
	switch {
	case o != applied:
		p.failed = true
		p.refused[c.number] = o == notApplied && c.number > 0
	case r.failed != "":
		p.findings.violation("%s of node %d: the error %q", p.key, p.node.id(), r.failed)
	case c.number > 0:
		p.acknowledged = c.number
	default:
		p.look(r, c.before)
	}
}

// look judges the answer to a read before which numbers up to most were sent.
func (p *pipeliner) look(r reply, most int) {
	number, err := strconv.Atoi(r.text)
	if r.absent {
		number, err = 0, nil
	}
	least := max(p.acknowledged, p.seen)
	if err != nil || number < least || number > most || p.refused[number] {
		p.findings.violation("key %s through node %d: read %q, want %d to %d, refused are %v", p.key,
			p.node.id(), r.text, least, most, p.refusals())
	}
	p.seen = max(p.seen, number)
}

func (p *pipeliner) refusals() (numbers []int) {
	for number, refused := range p.refused {
		if refused {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// last reads the key over another connection, some time after the last write, when what was
// unknown has mostly been decided, and gives up connection and key.
func (p *pipeliner) last(ctx context.Context) {
	if p.conn == nil {
		return
	}
	p.conn.close()
	p.conn = nil
	if p.failed {
		sleep(ctx, batchPause*time.Duration(1+p.random.IntN(50)))
	}
	conn, err := dialRESP(p.node.client, time.Second)
	if err != nil {
		return
	}
	defer conn.close()
	r, err := conn.do(operationTimeout, string(get), p.key)
	if err == nil && r.failed == "" {
		p.look(r, p.sent)
	}
}
