package snap

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

const (
	trailerMagic = "CNCTSNP1"
	// footerBytes is the fixed end of a trailer: digest, file size, meta length, crc, magic.
	footerBytes = digestBytes + sizeBytes + 4 + 4 + 8
	// hashBytes is the unit in which a file is read to be hashed.
	hashBytes = 256 << 10
)

// castagnoli makes the table of CRC-32C; the standard library keeps it and computes it once.
func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// appendFooter appends the fixed end of a trailer to the encoded meta.
func appendFooter(meta []byte, digest [32]byte, size int64) []byte {
	b := append(meta, digest[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	b = binary.BigEndian.AppendUint32(b, uint32(len(meta)))
	b = binary.BigEndian.AppendUint32(b, castagnoli(b))
	return append(b, trailerMagic...)
}

// readTrailer reads and checks the trailer of f, and nothing before it.
func readTrailer(f *os.File) (Manifest, error) {
	info, err := f.Stat()
	if err != nil {
		return Manifest{}, fmt.Errorf("snap: read trailer: %w", err)
	}
	tail := make([]byte, min(info.Size(), metaBytesMax+footerBytes))
	at := info.Size() - int64(len(tail))
	if _, err := f.ReadAt(tail, at); err != nil {
		return Manifest{}, fmt.Errorf("snap: read trailer: %w", err)
	}
	return parseTrailer(f.Name(), info.Size(), tail)
}

// parseTrailer takes the last bytes of a file of size bytes. The checksum comes before everything
// that is believed, the magic before the checksum so that a foreign file is called what it is.
func parseTrailer(file string, size int64, tail []byte) (Manifest, error) {
	damage := func(offset int64, what string, expected, found any) (Manifest, error) {
		return Manifest{}, &DamageError{File: file, Offset: offset, What: what,
			Expected: fmt.Sprint(expected), Found: fmt.Sprint(found)}
	}
	if len(tail) < footerBytes {
		return damage(0, "file size", fmt.Sprintf("at least %d", footerBytes), size)
	}
	footerAt := size - footerBytes
	footer := tail[len(tail)-footerBytes:]
	if magic := string(footer[48:]); magic != trailerMagic {
		return damage(size-8, "trailer magic", fmt.Sprintf("%q", trailerMagic),
			fmt.Sprintf("%q", magic))
	}
	claimed := binary.BigEndian.Uint32(footer[40:])
	if int64(claimed) > int64(len(tail)-footerBytes) {
		return damage(footerAt+40, "meta length",
			fmt.Sprintf("at most %d", len(tail)-footerBytes), claimed)
	}
	metaLength := int(claimed)
	covered := tail[len(tail)-footerBytes-metaLength : len(tail)-12]
	if sum, want := castagnoli(covered), binary.BigEndian.Uint32(footer[44:]); sum != want {
		return damage(footerAt-int64(metaLength), "trailer checksum",
			fmt.Sprintf("%08x", want), fmt.Sprintf("%08x", sum))
	}
	m := Manifest{Size: int64(binary.BigEndian.Uint64(footer[32:]))}
	if m.Size != size {
		return damage(0, "file size", m.Size, size)
	}
	meta, rest, err := parseMeta(covered[:metaLength])
	if err != nil || len(rest) != 0 {
		return damage(footerAt-int64(metaLength), "meta", "a meta of this version",
			fmt.Sprintf("%d bytes left, %v", len(rest), err))
	}
	m.Meta = meta
	copy(m.Digest[:], footer)
	return m, nil
}

// verify checks the whole of f against its trailer and returns the manifest. It reads every byte.
func verify(f *os.File) (Manifest, error) {
	m, err := readTrailer(f)
	if err != nil {
		return Manifest{}, err
	}
	digest, err := hashFile(f, m.Size-footerBytes)
	if err != nil {
		return Manifest{}, err
	}
	if digest != m.Digest {
		return Manifest{}, &DamageError{File: f.Name(), Offset: 0, What: "digest",
			Expected: fmt.Sprintf("%x", m.Digest), Found: fmt.Sprintf("%x", digest)}
	}
	return m, nil
}

// hashFile returns the SHA-256 of the first size bytes of f, which must be there.
func hashFile(f *os.File, size int64) (digest [32]byte, err error) {
	hash := sha256.New()
	n, err := io.CopyBuffer(hash, io.NewSectionReader(f, 0, size), make([]byte, hashBytes))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return digest, fmt.Errorf("snap: hash %s: %w", f.Name(), err)
	}
	hash.Sum(digest[:0])
	return digest, nil
}
