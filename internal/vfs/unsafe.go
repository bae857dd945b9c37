package vfs

import "log/slog"

// UnsafeNoSync returns base with SyncData, Sync and SyncDir doing nothing. A power cut then loses
// acknowledged data; it is for tests alone, and says so in the log at once. A nil logger is
// slog.Default, because this must never be silent.
func UnsafeNoSync(base FS, logger *slog.Logger) FS {
	if logger == nil {
		logger = slog.Default()
	}
	logger.Error("UNSAFE: SYNCING IS SWITCHED OFF, A CRASH LOSES ACKNOWLEDGED DATA")
	return &noSyncFS{FS: base}
}

// IsUnsafe says whether f never syncs, so that health and metrics can show it.
func IsUnsafe(f FS) bool {
	_, unsafe := f.(*noSyncFS)
	return unsafe
}

// noSyncFS drops every sync on its way to the file system below it.
type noSyncFS struct{ FS }

func (n *noSyncFS) OpenFile(name string, flag int) (File, error) {
	f, err := n.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return noSyncFile{f}, nil
}

func (n *noSyncFS) SyncDir(string) error { return nil }

type noSyncFile struct{ File }

func (noSyncFile) SyncData() error { return nil }

func (noSyncFile) Sync() error { return nil }
