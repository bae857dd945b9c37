package wal

import (
	"errors"
	"fmt"

	"github.com/connectraft/connect/internal/vfs"
)

// Append writes updates in order as one write and, with sync, makes everything appended so far
// durable with one sync before it returns. Without updates it only syncs. What is appended is
// visible through Group when it returns, not before.
//
// ErrInvalid and ErrDiskFull leave the log as it was. After any other error it is poisoned: what
// the disk has of these updates is unknown, and this and every later call returns the same error.
func (l *Log) Append(updates []Update, sync bool) error {
	l.appender.Lock()
	defer l.appender.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if l.o.Inline && l.Full() {
		l.worker.prepare() // in the place of the worker's timer
	}
	l.beginRound()
	for i := range updates {
		if err := l.stageUpdate(&updates[i]); err != nil {
			return err
		}
	}
	return l.commit(sync)
}

// commit writes what is staged, syncs if asked to, publishes, and then sees to what has become
// due.
func (l *Log) commit(sync bool) error {
	defer l.ioEnds(l.ioBegins())
	rotated, err := l.writeStaged()
	if err != nil {
		return err
	}
	if sync {
		if err := l.syncActive(); err != nil {
			return err
		}
	}
	for i := range l.staged {
		l.publish(&l.staged[i])
	}
	l.publishSequences()
	l.cache.evict()
	return l.maintain(rotated)
}

// writeStaged encodes and writes the staged frames, to the next segment if the active one has no
// room, and reports whether it went there.
func (l *Log) writeStaged() (rotated bool, _ error) {
	need := int64(0)
	for i := range l.staged {
		f := &l.staged[i]
		n := frameBytesOf(&f.header, &f.source)
		if n > payloadBytesMax {
			return false, fmt.Errorf("%w: group %d: update of %d bytes, allowed are %d",
				ErrInvalid, f.header.group, n, payloadBytesMax)
		}
		need += n
	}
	if need == 0 {
		return false, nil
	}
	if need = alignUp(need, sectorBytes); need > payloadBytesMax {
		return false, fmt.Errorf("%w: append of %d bytes, allowed are %d", ErrInvalid, need,
			payloadBytesMax)
	}
	rotated, err := l.tryWrite(need)
	full := errors.Is(err, ErrDiskFull) && !errors.Is(err, vfs.ErrNoHandles)
	if full && !l.stagedCommands() && l.giveUpBallast() {
		rotated, err = l.tryWrite(need)
	}
	return rotated, err
}

// tryWrite is writeStaged for frames that take need bytes. After ErrDiskFull it may be called again.
func (l *Log) tryWrite(need int64) (rotated bool, _ error) {
	if err := l.checkReserve(need); err != nil {
		return false, err
	}
	if err := l.reserveSuperblock(); err != nil {
		return false, err
	}
	target, at, sequence := l.active, l.active.end, l.sequence
	l.attempt++
	l.buf.reset()
	if at+need > target.size {
		next, err := l.takeNext(need)
		if err != nil {
			return false, err
		}
		target, at, rotated = next, 0, true
		sequence = l.putActivation(next, l.active.id, l.active.end)
	}
	l.putStaged(target, at, sequence)
	if err := l.writeBuffer(target, at); err != nil {
		return false, err
	}
	if rotated {
		l.adopt(target)
	}
	target.end = at + int64(l.buf.size())
	l.sequence = l.staged[len(l.staged)-1].header.sequence + 1
	l.buf.reset()
	return rotated, nil
}

// putStaged encodes the staged frames behind what the buffer has; at is where the buffer goes.
func (l *Log) putStaged(target *segment, at int64, sequence uint64) {
	durable := uint64(0)
	if target == l.active {
		durable = uint64(l.durable)
	}
	for i := range l.staged {
		f := &l.staged[i]
		t := l.encodingTip(f.group)
		f.offset = at + int64(l.buf.size())
		f.header.durable = durable
		f.header.sequence, f.header.previous = sequence, t.sequence
		t.sequence = sequence
		sequence++
		putFrame(&l.buf, &f.header, &f.source, target.salt, at)
	}
	l.buf.pad(0, sectorBytes)
}

// writeBuffer writes the buffer to a segment. A disk that took nothing because it is full leaves
// everything as it was; any other failure poisons the log.
func (l *Log) writeBuffer(target *segment, at int64) error {
	n, err := target.file.WriteVectorAt(l.buf.vector(), at)
	switch {
	case err == nil:
		return nil
	case n == 0 && errors.Is(err, vfs.ErrNoSpace):
		return fmt.Errorf("%w: write segment %d: %w", ErrDiskFull, target.id, err)
	}
	return l.poison(fmt.Errorf("write segment %d at %d: %w", target.id, at, err))
}

// syncActive makes everything that is written durable.
func (l *Log) syncActive() error {
	if l.durable == l.active.end {
		return nil
	}
	defer l.ioEnds(l.ioBegins())
	start := l.o.Now()
	err := l.active.file.SyncData()
	l.syncs.Add(1)
	l.syncNanos.Add(int64(l.o.Now().Sub(start)))
	if err != nil {
		return l.poison(fmt.Errorf("sync segment %d: %w", l.active.id, err))
	}
	l.durable = l.active.end
	return nil
}

// ioBegins lets SyncStarted tell since when the disk keeps us, and reports whether it was not set
// already, by who called us. ioEnds takes that back.
func (l *Log) ioBegins() bool {
	return l.syncStarted.Load() == 0 && l.syncStarted.CompareAndSwap(0, l.o.Now().UnixNano())
}

func (l *Log) ioEnds(began bool) {
	if began {
		l.syncStarted.Store(0)
	}
}
