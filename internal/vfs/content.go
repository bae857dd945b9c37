package vfs

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
)

// chunkBytes is the unit in which file contents share memory between images.
const chunkBytes = 4096

// content is the bytes of a file. Copies share chunks until one of them writes.
//
// A chunk may be written in place only by the content whose owner token it carries. clone gives
// both sides new tokens, so from then on every chunk that existed is immutable for both. A nil
// chunk reads zero.
type content struct {
	size   int64
	chunks []*chunk
	owner  *ownerToken
}

// ownerToken must not be of size zero: pointers to distinct zero-size values may be equal.
type ownerToken struct{ _ byte }

type chunk struct {
	owner *ownerToken
	// sum caches the hash of data; zero means that it is not known.
	sum  atomic.Uint64
	data [chunkBytes]byte
}

// clone returns a copy that costs a slice of pointers, whatever the size of the file.
func (c *content) clone() content {
	c.owner = new(ownerToken)
	return content{
		size:   c.size,
		chunks: append([]*chunk(nil), c.chunks...),
		owner:  new(ownerToken),
	}
}

// readAt copies bytes out and says how many there were before the end of the file.
func (c *content) readAt(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	for done := 0; done < len(p); {
		index, at := int((off+int64(done))/chunkBytes), int((off+int64(done))%chunkBytes)
		part := p[done:min(len(p), done+chunkBytes-at)]
		if index < len(c.chunks) && c.chunks[index] != nil {
			copy(part, c.chunks[index].data[at:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(p)
}

// writeAt copies bytes in and grows the file as needed.
func (c *content) writeAt(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	c.extend(off + int64(len(p)))
	for len(p) > 0 {
		index, at := int(off/chunkBytes), int(off%chunkBytes)
		part := p[:min(len(p), chunkBytes-at)]
		if c.chunkAt(index) != nil || !allZero(part) {
			copy(c.own(index).data[at:], part)
		}
		p = p[len(part):]
		off += int64(len(part))
	}
}

// extend grows the file with zeros; it never shrinks it.
func (c *content) extend(size int64) { c.size = max(c.size, size) }

// truncate sets the size. Bytes behind a smaller size are forgotten, so growing again reads zero.
func (c *content) truncate(size int64) {
	if size < c.size {
		keep := int((size + chunkBytes - 1) / chunkBytes)
		if keep < len(c.chunks) {
			c.chunks = c.chunks[:keep:keep]
		}
		if at := int(size % chunkBytes); at != 0 && c.chunkAt(keep-1) != nil {
			clear(c.own(keep - 1).data[at:])
		}
	}
	c.size = size
}

func (c *content) chunkAt(index int) *chunk {
	if index >= len(c.chunks) {
		return nil
	}
	return c.chunks[index]
}

// own returns a chunk that this content may write in place.
func (c *content) own(index int) *chunk {
	if c.owner == nil {
		c.owner = new(ownerToken)
	}
	for len(c.chunks) <= index {
		c.chunks = append(c.chunks, nil)
	}
	old := c.chunks[index]
	if old != nil && old.owner == c.owner {
		old.sum.Store(0)
		return old
	}
	fresh := &chunk{owner: c.owner}
	if old != nil {
		fresh.data = old.data
	}
	c.chunks[index] = fresh
	return fresh
}

// fingerprint hashes the size and the bytes. Zeros count the same with a chunk or without one.
func (c *content) fingerprint() uint64 {
	sum := mix(fingerprintSeed, uint64(c.size))
	for index, ch := range c.chunks {
		if ch == nil {
			continue
		}
		if s := ch.fingerprint(); s != zeroChunkSum {
			sum = mix(mix(sum, uint64(index)), s)
		}
	}
	return sum
}

func (ch *chunk) fingerprint() uint64 {
	if s := ch.sum.Load(); s != 0 {
		return s
	}
	s := hashBytes(ch.data[:])
	ch.sum.Store(s)
	return s
}

const fingerprintSeed = 0x9e3779b97f4a7c15

// zeroChunkSum is the hash of a chunk of zeros.
var zeroChunkSum = hashBytes(make([]byte, chunkBytes))

// mix folds a word into a hash. It tells images apart; it is no defence against malice.
func mix(sum, word uint64) uint64 {
	sum = (sum ^ word) * 0xff51afd7ed558ccd
	return sum ^ sum>>32
}

func hashBytes(p []byte) uint64 {
	sum := mix(fingerprintSeed, uint64(len(p)))
	for ; len(p) >= 8; p = p[8:] {
		sum = mix(sum, binary.LittleEndian.Uint64(p))
	}
	for _, b := range p {
		sum = mix(sum, uint64(b))
	}
	return sum | 1 // never zero, which means unknown
}

// zeros is never written.
var zeros [chunkBytes]byte

func allZero(p []byte) bool {
	for ; len(p) > chunkBytes; p = p[chunkBytes:] {
		if !bytes.Equal(p[:chunkBytes], zeros[:]) {
			return false
		}
	}
	return bytes.Equal(p, zeros[:len(p)])
}
