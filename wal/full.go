package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/connectraft/connect/internal/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// A full disk is met in three steps, each of which leaves room for the next.
//
//  1. The next segment cannot be prepared, for want of space or of a file handle: Log.Full is true.
//     The active segment still has room.
//  2. Less than its reserve is left in the active segment: appends with commands get ErrDiskFull,
//     those without (votes, commit indexes, configuration changes, marks) and compactions go on.
//  3. The active segment is full: an append without commands gives up the ballast file and takes
//     its room for a segment. That does not help against the want of a file handle.
//
// Preparing is tried again after every removal of a segment, with every append that is refused,
// and every fullRetry; when it succeeds, commands are taken again and the ballast comes back.

const (
	ballastName = "ballast"
	// reserveShare is the part of a segment that commands leave free while the disk is full.
	reserveShare = 16
	fullRetry    = time.Second
)

// isCommand says whether an entry is work of a client, which can wait for space.
func isCommand(e *raftpb.Entry) bool {
	return e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0
}

// stagedCommands says whether anything staged can wait for space. Entries that are only moved
// count too: nobody waits for them.
func (l *Log) stagedCommands() bool {
	for i := range l.staged {
		for _, e := range l.staged[i].source.entries {
			if isCommand(e) {
				return true
			}
		}
	}
	return false
}

// checkReserve refuses commands that would take the reserve of the active segment while there is
// no next one.
func (l *Log) checkReserve(need int64) error {
	room := l.active.size - l.active.end - need
	if room >= l.active.size/reserveShare || !l.Full() || !l.stagedCommands() {
		return nil
	}
	l.worker.prepare()
	if !l.Full() {
		return nil
	}
	return fmt.Errorf("%w: segment %d keeps its last %d bytes free", ErrDiskFull, l.active.id,
		l.active.size/reserveShare)
}

// dropBallast gives the room of the ballast file back to the disk; false if there is none.
func dropBallast(fs vfs.FS, dir string) (bool, error) {
	err := fs.Remove(filepath.Join(dir, ballastName))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("wal: give up the ballast: %w", err)
	}
	if err := fs.SyncDir(dir); err != nil {
		return false, fmt.Errorf("wal: give up the ballast: %w", err)
	}
	return true, nil
}

// giveUpBallast is dropBallast of an append that must not be refused.
func (l *Log) giveUpBallast() bool {
	dropped, err := dropBallast(l.o.FS, l.o.Dir)
	switch {
	case err != nil:
		l.o.Logger.Warn("ballast not given up", "error", err)
	case dropped:
		l.worker.missBallast()
		l.o.Logger.Warn("disk is full, ballast given up", "bytes", l.o.ReserveBytes)
	}
	return dropped
}

// keepBallast makes the ballast file if it is not there in full. A disk without room for it gets
// none; the next segment that is prepared tries again.
func (l *Log) keepBallast() error {
	if l.o.ReserveBytes < 0 {
		_, err := dropBallast(l.o.FS, l.o.Dir)
		return err
	}
	f, err := l.o.FS.OpenFile(filepath.Join(l.o.Dir, ballastName), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("wal: open the ballast: %w", err)
	}
	size, err := f.Size()
	if err == nil && size != l.o.ReserveBytes {
		if err = f.Truncate(0); err == nil {
			err = f.Preallocate(l.o.ReserveBytes)
		}
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		return nil
	}
	_, dropErr := dropBallast(l.o.FS, l.o.Dir)
	return errors.Join(fmt.Errorf("wal: allocate the ballast: %w", err), dropErr)
}
