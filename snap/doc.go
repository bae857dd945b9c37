// Package snap stores snapshots of state machines: one immutable bbolt file for each snapshot.
//
// # The file
//
// A snapshot is a bbolt database with a trailer behind its last page, so that one file proves
// itself from its first byte to its last. All integers are big-endian, all checksums of chunks and
// trailers are CRC-32C (Castagnoli).
//
//	+--------------------------------------------------------------------------+
//	| bbolt database, whole pages                                              |
//	|   bucket "meta":   "meta"   -> the meta field of the trailer             |
//	|                    "stream" -> bytes u64, chunks u64                     |
//	|   bucket "chunks": number u64 -> crc u32 of data, data (1 to 256 KiB)    |
//	+--------------------------------------------------------------------------+
//	| meta (variable)                                                          |
//	+--------------------------------------------------------------------------+
//	| digest 32 | file size u64 | meta length u32 | crc u32 | magic "CNCTSNP1" |
//	+--------------------------------------------------------------------------+
//
//	meta: format u8 = 1 | group u64 | index u64 | term u64 | time i64 | version u32 |
//	      machine length u8, machine | membership length u16, membership (protobuf)
//
// The digest is the SHA-256 of everything before it: database and meta. The crc covers the meta,
// the digest, the file size and the meta length. Chunks are numbered from 0 without a gap, and all
// but the last are full. A database that stands behind the trailer's check may still be read page
// by page from a failing disk later, which is why chunks carry checksums of their own.
//
// bbolt checks nothing but its meta pages and trusts every other byte. So [Store.Load] compares
// the whole digest before it opens the database, opens it read-only, and turns a panic or a memory
// fault of the opened database into a [*DamageError]. bbolt opens a file by its meta pages and
// never looks behind the last page that they count, where the trailer is.
//
// # Names
//
// A file is called <group>-<index>-<term>.snap, each number in 16 hexadecimal digits. A file that
// is being written has the same name with .<number>.tmp behind it.
//
// # Crash safety
//
// Writing a snapshot, from a state machine or from another node, is four steps:
//
//  1. The file is written under its temporary name.
//  2. The file is synced: all bytes, trailer included, are durable under the temporary name.
//  3. The file is renamed to its final name. This is the commit point.
//  4. The directory is synced; only then do [Writer.Commit] and [Store.Receive] return.
//
// A crash before step 3 leaves a temporary file, which [Open] removes. A crash between steps 3 and
// 4 leaves either the temporary name or the final one; behind both are the same complete bytes, so
// the snapshot is gone or whole. The caller has not been told of it and has not removed the log
// that it stands for. A snapshot of the same group, index and term is replaced in the same step 3,
// so there is at no time a name with half a file behind it.
//
// A failed write or sync ends that snapshot and removes its temporary file; the sync is not tried
// again on the same file. Removing is one unlink: after a crash the file is there, whole, or gone.
package snap
