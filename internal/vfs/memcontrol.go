package vfs

// Kill ends the process that uses the file system, as kill -9 does: its handles and locks are gone,
// while everything written stays visible. What was pending is still pending.
func (m *Mem) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	m.open = 0
	m.locks = map[string]*memLock{}
	for _, n := range m.disk.inodes {
		n.handles = 0
	}
	m.disk.prune()
}

// OpenHandles counts the files and locks that are open, so that tests find the forgotten ones.
func (m *Mem) OpenHandles() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

// Operations counts the operations so far that changed or synced something, as a recording does.
func (m *Mem) Operations() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.disk.seq
}

// SetLimit bounds the sum of all file sizes to bytes; zero lifts the bound. Files that are too big
// already stay; what needs more room gives ErrNoSpace, a write after the part that fits.
func (m *Mem) SetLimit(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = bytes
}

// Used is the sum of all file sizes in bytes.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.usedLocked()
}

func (m *Mem) usedLocked() int64 {
	var used int64
	for _, n := range m.disk.inodes {
		if n.live.links > 0 || n.handles > 0 {
			used += n.live.data.size
		}
	}
	return used
}

// roomLocked is how many bytes from off on the file may hold.
func (m *Mem) roomLocked(n *inode, off int64) int64 {
	if m.limit == 0 {
		return int64(^uint64(0) >> 1)
	}
	end := max(m.limit-m.usedLocked(), 0) + n.live.data.size
	return end - off
}

// Fingerprint is a hash of all paths, sizes and bytes that are visible. Equal trees have equal
// fingerprints, in every run.
func (m *Mem) Fingerprint() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.disk.fingerprint(rootID)
}
