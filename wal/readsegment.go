package wal

import "fmt"

// readSegment replays the frames of one segment and sets end, durable and more for it.
//
// At a bad place the question is whether it was durable: everything in front of sealed was, and
// in the newest segment everything in front of an offset that a frame behind it, or the
// superblock, tells of. A bad place that was durable is damage, and reading goes on behind it; one
// that was not is where the log ends, whatever stands behind it.
func (r *recovery) readSegment(f *segmentFile, newest bool) error {
	c := &cursor{recovery: r, file: f, newest: newest, at: sectorBytes, whole: f.valid, known: -1,
		good: sectorBytes}
	r.durable, r.more = 0, false
	for f.sealed < 0 || c.at < f.sealed {
		more, err := c.step()
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	c.endActivation() // a segment may be sealed right behind its activation
	r.end = alignUp(c.at, sectorBytes)
	if !newest {
		return nil
	}
	known, err := c.knownDurable()
	if err != nil {
		return err
	}
	r.durable = min(known, r.end)
	if c.headers || c.known < 0 || c.live {
		_, r.more, err = f.scan.durableEnd(r.end)
	}
	return err
}

// cursor is the reading of one segment.
type cursor struct {
	*recovery
	file   *segmentFile
	newest bool
	at     int64
	// whole says that nothing of the activation was lost so far.
	whole bool
	// activated says that the end of the activation was passed.
	activated bool
	// seen is what the frames so far say was durable, and known what knownDurable found, -1 before.
	seen, known int64
	// headers says that valid headers stand behind the place where known was found.
	headers bool
	// good is where the last frame that was accepted ends. In a live log fresh says that whatever
	// is read from now on was read after known was found.
	good  int64
	fresh bool
}

// step reads what stands at the cursor and moves behind it; it reports false where the log ends.
func (c *cursor) step() (bool, error) {
	status, h, payload, err := c.file.scan.frame(c.at)
	if err != nil {
		return false, err
	}
	c.endActivation()
	if status == frameNone {
		skipped, err := c.skipPadding()
		if skipped || err != nil {
			return skipped, err
		}
	}
	inOrder := status != frameNone && (c.sequence == 0 || h.sequence == c.sequence)
	if inOrder && status == frameWhole {
		return true, c.accept(&h, payload, c.file.scan.places, false)
	}
	known, err := c.knownDurable()
	if err != nil {
		return false, err
	}
	if c.at >= known {
		return false, c.endOfLog(status, &h)
	}
	if c.live && !c.fresh {
		// The buffer may be older than what says that this place was durable, so all of it is read
		// once more from the last good frame on. What known covers does not change any more.
		c.fresh, c.at = true, c.good
		c.file.scan.buf = nil
		return true, nil
	}
	if inOrder {
		c.replay.lose(&lostRegion{file: segmentName(c.file.id), offset: c.at, attributed: true,
			expected: fmt.Sprintf("frame %d with %d bytes", h.sequence, h.frameBytes()),
			found:    "bytes that fail their checksum"})
		return true, c.accept(&h, nil, nil, true)
	}
	c.whole = c.whole && c.activated
	return c.resync(status, &h, known)
}

// endOfLog returns the error of a disk that refuses to read what stands at the cursor, where no
// valid frame does. What cannot be read is no torn write: it may well have been acknowledged. After a
// clean close the superblock says that nothing follows.
func (c *cursor) endOfLog(status frameStatus, h *header) error {
	if s := c.super; s != nil && s.clean && s.segment == c.file.id && s.durable == c.at {
		return nil
	}
	size := int64(frameHeaderBytes)
	if status != frameNone {
		size = h.frameBytes()
	}
	return c.file.scan.refusal(c.at, c.at+size)
}

// endActivation lets the replay know when every checkpoint of the segment has been read.
func (c *cursor) endActivation() {
	if c.activated || c.at < c.file.activationEnd {
		return
	}
	c.activated = true
	if c.whole && c.sequence == c.file.activationLast {
		c.replay.endActivation(c.file.id, c.sequence)
	}
}

// skipPadding moves over the zeros at the end of a write.
func (c *cursor) skipPadding() (bool, error) {
	next := alignUp(c.at, sectorBytes)
	zero, err := c.file.scan.padding(c.at, next)
	if zero && err == nil {
		c.at = next
	}
	return zero, err
}

// accept replays a frame in order and moves behind it.
func (c *cursor) accept(h *header, payload []byte, places []location, lost bool) error {
	if observe := c.replay.observe; observe != nil {
		if err := observe(h, payload, places, c.file.segment, c.at); err != nil {
			return err
		}
	}
	if err := c.replay.apply(h, payload, places, c.file.segment, lost); err != nil {
		return err
	}
	c.sequence = h.sequence + 1
	c.seen = max(c.seen, int64(h.durable))
	c.at += h.frameBytes()
	c.good = c.at
	return nil
}

// resync moves over a damaged region to the next valid header, or to the end of what was durable. In
// the newest segment the frame right behind that end counts too: it may be the one that tells of it.
func (c *cursor) resync(status frameStatus, h *header, known int64) (bool, error) {
	from, at := c.at, c.at
	limit := known
	if c.newest && c.file.sealed < 0 {
		limit += frameAlign
	}
	if status == frameNone || h.sequence < c.sequence {
		at += frameAlign
	}
	next := header{}
	for {
		var err error
		if at, next, err = c.file.scan.search(at, limit); err != nil {
			return false, err
		}
		if at >= min(limit, c.file.scan.size) || next.sequence >= c.sequence {
			break
		}
		at += frameAlign
	}
	region := &lostRegion{file: segmentName(c.file.id), offset: from, firstLost: c.sequence,
		expected: fmt.Sprintf("frame %d", c.sequence), found: "no valid frame header"}
	found := next.sequence != 0 && at < limit
	if !found && c.superCovers() {
		return false, nil // checkEnd tells what is lost
	}
	if found {
		region.lastLost = next.sequence - 1
		region.found += fmt.Sprintf(" before offset %d", at)
		c.sequence, c.at = next.sequence, at
	} else {
		c.at = known
	}
	if c.file.valid && !c.activated {
		region.activation = c.file.id
	}
	c.replay.lose(region)
	return found, nil
}

// superCovers says whether the superblock describes the groups as they were behind the end of
// this segment, the newest.
func (c *cursor) superCovers() bool {
	return c.newest && c.super != nil && c.super.segment == c.file.id && c.super.sequence > c.sequence
}

// knownDurable is up to where the segment is known to have been synced.
func (c *cursor) knownDurable() (int64, error) {
	if c.file.sealed >= 0 {
		return c.file.sealed, nil
	}
	if c.known >= 0 {
		return c.known, nil
	}
	end, headers, err := c.file.scan.durableEnd(c.at)
	if err != nil {
		return 0, err
	}
	c.headers = headers
	end = max(end, c.seen, c.file.proven)
	if c.super != nil && c.super.segment == c.file.id {
		end = max(end, c.super.durable)
	}
	c.known = end
	return end, nil
}
