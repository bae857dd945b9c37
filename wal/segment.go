package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/connectraft/connect/internal/vfs"
)

// A segment is a file of fixed size named by its id, which is never used again. It begins with
// one sector, little endian:
//
//	  0  [8]  "connwal\n"
//	  8  u32  format version, 1           12  u32  512, bytes of this header
//	 16  u64  segment id
//	 24  u64  id of the segment before    32  u64  where the frames of that one end
//	 40  u64  file size
//	 48  u64  node id                     56  u64  incarnation
//	 64  u64  sequence of the first frame
//	 72  u64  activation end
//	 80  u8   bytes of cluster id         81  [63] cluster id
//	144  u64  sequence behind the activation
//	152       zeros
//	508  u32  CRC32C of bytes 0 to 507
//
// Behind it stand the activation frames, up to activation end: a checkpoint of every group, and
// after an unclean stop the entries that were moved here. The activation counts whole or not at
// all. Frames follow; every write starts and ends at a multiple of 512, filled up with zeros, so
// that a torn sector never holds what was synced before.
const (
	sectorBytes   = 512
	segmentMagic  = "connwal\n"
	formatVersion = 1
	segmentSuffix = ".wal"
	tempSuffix    = ".tmp"
)

// segmentHeader is the first sector of a segment.
type segmentHeader struct {
	id, previous  uint64
	previousEnd   int64
	size          int64
	identity      Identity
	firstSequence uint64
	activationEnd int64
	// activationLast is the sequence of the frame behind the activation: without it an activation that
	// is torn between two frames would look whole.
	activationLast uint64
}

func (h *segmentHeader) put(b []byte) {
	clear(b[:sectorBytes])
	le := binary.LittleEndian
	copy(b, segmentMagic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], sectorBytes)
	for i, v := range [...]uint64{h.id, h.previous, uint64(h.previousEnd), uint64(h.size),
		h.identity.NodeID, h.identity.Incarnation, h.firstSequence, uint64(h.activationEnd)} {
		le.PutUint64(b[16+8*i:], v)
	}
	b[80] = byte(len(h.identity.ClusterID))
	copy(b[81:], h.identity.ClusterID)
	le.PutUint64(b[144:], h.activationLast)
	le.PutUint32(b[508:], crc32.Checksum(b[:508], castagnoli))
}

// errNoHeader says that a file does not begin with a segment header.
var errNoHeader = errors.New("no valid segment header")

// decodeSegmentHeader returns errNoHeader for what is no header, and another error for a header
// of a version that this code does not know.
func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	le := binary.LittleEndian
	if len(b) < sectorBytes || string(b[:8]) != segmentMagic || b[80] > clusterIDBytesMax ||
		crc32.Checksum(b[:508], castagnoli) != le.Uint32(b[508:]) {
		return segmentHeader{}, errNoHeader
	}
	if v := le.Uint32(b[8:]); v != formatVersion {
		return segmentHeader{}, fmt.Errorf("wal: format version %d, this program reads %d",
			v, formatVersion)
	}
	return segmentHeader{
		id: le.Uint64(b[16:]), previous: le.Uint64(b[24:]), previousEnd: int64(le.Uint64(b[32:])),
		size: int64(le.Uint64(b[40:])),
		identity: Identity{ClusterID: string(b[81 : 81+int(b[80])]), NodeID: le.Uint64(b[48:]),
			Incarnation: le.Uint64(b[56:])},
		firstSequence: le.Uint64(b[64:]), activationEnd: int64(le.Uint64(b[72:])),
		activationLast: le.Uint64(b[144:]),
	}, nil
}

func segmentName(id uint64) string { return fmt.Sprintf("%016x%s", id, segmentSuffix) }

// parseSegmentName is the inverse of segmentName.
func parseSegmentName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return id, err == nil && id != 0 && segmentName(id) == name
}

// segment is an open segment file. Readers hold a reference while they use the file; the log
// holds one until the segment is removed.
type segment struct {
	segmentHeader
	file vfs.File
	salt uint32
	// end is where the frames end; written by the appender alone.
	end int64
	// live are the encoded bytes of entries here that groups still have.
	live atomic.Int64
	refs atomic.Int32
}

func (s *segment) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *segment) release() error {
	if s.refs.Add(-1) == 0 {
		return s.file.Close()
	}
	return nil
}

// openSegment opens a file that exists.
func openSegment(fs vfs.FS, dir string, id uint64, flag int) (*segment, error) {
	f, err := fs.OpenFile(filepath.Join(dir, segmentName(id)), flag)
	if err != nil {
		return nil, fmt.Errorf("wal: open segment %d: %w", id, err)
	}
	s := &segment{segmentHeader: segmentHeader{id: id}, file: f}
	s.refs.Store(1)
	return s, nil
}

// createSegment makes a segment of size zero bytes that is durable under its name. A crash on the
// way leaves at most a file with tempSuffix, which recovery removes. The zeros are written and
// synced in steps, so that the syncs of appends beside it wait for a step at most.
func createSegment(fs vfs.FS, dir string, id uint64, size int64) (*segment, error) {
	name := filepath.Join(dir, segmentName(id))
	temp := name + tempSuffix
	f, err := fs.OpenFile(temp, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("wal: create segment %d: %w", id, err)
	}
	err = errors.Join(fillSegment(f, size), f.Close())
	if err == nil {
		if err = fs.Rename(temp, name); err == nil {
			err = fs.SyncDir(dir)
		}
	}
	if err != nil {
		err = fmt.Errorf("wal: create segment %d: %w", id, err)
		return nil, errors.Join(err, ignoreMissing(fs.Remove(temp)))
	}
	s, err := openSegment(fs, dir, id, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	s.size = size
	return s, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

const fillStepBytes = 1 << 20

func fillSegment(f vfs.File, size int64) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := f.Preallocate(size); err != nil {
		return err
	}
	return writeZeros(f, 0, size)
}

// writeZeros writes and syncs zeros over [from, to).
func writeZeros(f vfs.File, from, to int64) error {
	buf := make([]byte, min(fillStepBytes, to-from))
	for at := from; at < to; at += int64(len(buf)) {
		n := min(int64(len(buf)), to-at)
		if _, err := f.WriteAt(buf[:n], at); err != nil {
			return err
		}
		if err := f.SyncData(); err != nil {
			return err
		}
	}
	return f.Sync()
}
