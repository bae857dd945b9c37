package vfs

import (
	"fmt"
	"strings"
)

// OpKind is a kind of operation; kinds may be joined with | where a set is asked for.
type OpKind uint32

// The operations. Those up to OpSyncDir change what a crash leaves behind and are recorded; the
// others exist so that faults can hit them.
const (
	OpWrite OpKind = 1 << iota
	OpTruncate
	OpPreallocate
	OpCreate
	OpMkdir
	OpRemove
	OpRename
	OpSyncData
	OpSync
	OpSyncDir
	OpOpen
	OpRead
	OpList
	OpLock
	// opDrop forgets the pending bytes of a file: a sync failed, and the pages count as clean.
	opDrop
)

// OpAnySync is every operation that makes something durable.
const OpAnySync = OpSyncData | OpSync | OpSyncDir

const (
	opData  = OpWrite | OpTruncate | OpPreallocate
	opEntry = OpCreate | OpRemove | OpRename
)

var opNames = []string{
	"write", "truncate", "preallocate", "create", "mkdir", "remove", "rename",
	"syncdata", "sync", "syncdir", "open", "read", "list", "lock", "drop",
}

func (k OpKind) String() string {
	var names []string
	for i, name := range opNames {
		if k&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// Op is one operation on a Mem. Ops are immutable once made.
type Op struct {
	Kind OpKind
	// Name is the path of the file or directory; of an open file, the path it was opened by.
	Name string
	// NewName is the target of a rename.
	NewName string
	// Offset is where a write or a read begins.
	Offset int64
	// Size is the size that a truncate or preallocate asks for.
	Size int64
	// Data is the bytes of a write. Nobody changes them.
	Data []byte

	// seq numbers the operations of one disk, so that pending ones have one global order.
	seq uint64
	// inode is the file or directory acted on; of a create, the new one.
	inode uint64
	// dir and newDir are the directories whose names change, and base and newBase the names there.
	dir, newDir   uint64
	base, newBase string
}

func (o *Op) String() string {
	switch o.Kind {
	case OpWrite:
		return fmt.Sprintf("write %s @%d+%d", o.Name, o.Offset, len(o.Data))
	case OpTruncate, OpPreallocate:
		return fmt.Sprintf("%v %s to %d", o.Kind, o.Name, o.Size)
	case OpRename:
		return fmt.Sprintf("rename %s to %s", o.Name, o.NewName)
	default:
		return fmt.Sprintf("%v %s", o.Kind, o.Name)
	}
}

// end is the offset behind the last byte of a write.
func (o *Op) end() int64 { return o.Offset + int64(len(o.Data)) }
