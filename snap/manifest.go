package snap

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const (
	// manifestBytesMax bounds an encoded manifest, which travels in a raft message.
	manifestBytesMax = 1024
	// metaBytesMax leaves room for the size and the digest behind the meta.
	metaBytesMax    = manifestBytesMax - sizeBytes - digestBytes
	machineBytesMax = 64

	metaFormat      = 1
	metaFixedBytes  = 1 + 8 + 8 + 8 + 8 + 4 + 1 // format to the length of machine
	confLengthBytes = 2
	sizeBytes       = 8
	digestBytes     = 32
)

// Meta says what a snapshot is a snapshot of.
type Meta struct {
	// Group is the raft group; Index and Term are those of the last entry the state contains.
	// Index is at least 1.
	Group, Index, Term uint64
	// ConfState is the membership at Index. It is never nil in what this package returns; nil in
	// what it is given means an empty one. It is shared, never written to.
	ConfState *raftpb.ConfState
	// Time is the replicated clock at Index, in nanoseconds since 1970.
	Time int64
	// Machine is the kind of the state machine, free text of at most 64 bytes.
	Machine string
	// Version is the version of the state machine's stream, chosen by the machine.
	Version uint32
}

// Manifest is a Meta with the proof of its file. Its encoding is what raftpb.Snapshot.Data carries.
type Manifest struct {
	Meta
	// Size is the length of the whole file in bytes.
	Size int64
	// Digest is the SHA-256 of the file up to the digest in its trailer (see the package comment).
	Digest [32]byte
}

// AppendBinary appends the encoding of the manifest to b, at most 1 KiB. It returns [ErrInvalid]
// for a machine name or a membership that does not fit.
func (m Manifest) AppendBinary(b []byte) ([]byte, error) {
	b, err := m.Meta.appendBinary(b)
	if err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint64(b, uint64(m.Size))
	return append(b, m.Digest[:]...), nil
}

// ParseManifest is the inverse of [Manifest.AppendBinary]. It takes nothing for granted and returns
// [ErrInvalid] for anything else; the manifest does not alias b.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	meta, rest, err := parseMeta(b)
	if err != nil {
		return m, err
	}
	if len(rest) != sizeBytes+digestBytes {
		return m, fmt.Errorf("%w: %d bytes behind the membership, want %d",
			ErrInvalid, len(rest), sizeBytes+digestBytes)
	}
	m.Meta = meta
	m.Size = int64(binary.BigEndian.Uint64(rest))
	if m.Size < footerBytes {
		return Manifest{}, fmt.Errorf("%w: size %d", ErrInvalid, m.Size)
	}
	copy(m.Digest[:], rest[sizeBytes:])
	return m, nil
}

// appendBinary appends the meta field of the package comment's diagram.
func (m Meta) appendBinary(b []byte) ([]byte, error) {
	if m.Index == 0 {
		return nil, fmt.Errorf("%w: index 0", ErrInvalid)
	}
	if len(m.Machine) > machineBytesMax {
		return nil, fmt.Errorf("%w: machine name of %d bytes, at most %d are allowed",
			ErrInvalid, len(m.Machine), machineBytesMax)
	}
	conf, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.ConfState)
	if err != nil {
		return nil, fmt.Errorf("%w: membership: %w", ErrInvalid, err)
	}
	if n := metaFixedBytes + len(m.Machine) + confLengthBytes + len(conf); n > metaBytesMax {
		return nil, fmt.Errorf("%w: the membership takes %d bytes, which makes a manifest of %d; "+
			"at most %d are allowed", ErrInvalid, len(conf), n+sizeBytes+digestBytes, manifestBytesMax)
	}
	b = append(b, metaFormat)
	b = binary.BigEndian.AppendUint64(b, m.Group)
	b = binary.BigEndian.AppendUint64(b, m.Index)
	b = binary.BigEndian.AppendUint64(b, m.Term)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Time))
	b = binary.BigEndian.AppendUint32(b, m.Version)
	b = append(b, byte(len(m.Machine)))
	b = append(b, m.Machine...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(conf)))
	return append(b, conf...), nil
}

// parseMeta reads a meta from the front of b and returns what follows it.
func parseMeta(b []byte) (Meta, []byte, error) {
	var m Meta
	if len(b) < metaFixedBytes || len(b) > manifestBytesMax {
		return m, nil, fmt.Errorf("%w: %d bytes", ErrInvalid, len(b))
	}
	if b[0] != metaFormat {
		return m, nil, fmt.Errorf("%w: format %d, this version reads %d",
			ErrInvalid, b[0], metaFormat)
	}
	m.Group = binary.BigEndian.Uint64(b[1:])
	m.Index = binary.BigEndian.Uint64(b[9:])
	m.Term = binary.BigEndian.Uint64(b[17:])
	m.Time = int64(binary.BigEndian.Uint64(b[25:]))
	m.Version = binary.BigEndian.Uint32(b[33:])
	if m.Index == 0 {
		return Meta{}, nil, fmt.Errorf("%w: index 0", ErrInvalid)
	}
	machineLength := int(b[37])
	b = b[metaFixedBytes:]
	if machineLength > machineBytesMax || machineLength+confLengthBytes > len(b) {
		return Meta{}, nil, fmt.Errorf("%w: machine name of %d bytes", ErrInvalid, machineLength)
	}
	m.Machine = string(b[:machineLength])
	b = b[machineLength:]
	confLength := int(binary.BigEndian.Uint16(b))
	b = b[confLengthBytes:]
	if confLength > len(b) {
		return Meta{}, nil, fmt.Errorf("%w: membership of %d bytes", ErrInvalid, confLength)
	}
	m.ConfState = new(raftpb.ConfState)
	if err := proto.Unmarshal(b[:confLength], m.ConfState); err != nil {
		return Meta{}, nil, fmt.Errorf("%w: membership: %w", ErrInvalid, err)
	}
	return m, b[confLength:], nil
}
