package snap_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/connectraft/connect/snap"
)

const fullDisk = "CONNECT_TEST_FULL_DISK"

// TestFullDisk runs itself again in a mount namespace of its own, where it may mount a disk of
// 6 MiB, and fills that.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv(fullDisk); dir != "" {
		fillDisk(t, dir)
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	child.Env = append(os.Environ(), fullDisk+"="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := child.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) ||
		errors.Is(err, syscall.ENOSPC) || bytes.Contains(out, []byte("cannot mount")) {
		t.Skipf("this system does not let a user mount a small disk: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "disk was full") {
		t.Fatalf("the child did not fill its disk:\n%s", out)
	}
}

func fillDisk(t *testing.T, dir string) {
	if err := syscall.Mount("disk", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	s := open(t, dir)
	small := write(t, s, meta(1), content(1, 100<<10))

	// The disk fills during a Write.
	w, err := s.Create(meta(2))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(content(2, 20<<20))
	wantFull(t, dir, "Write", err)
	if _, again := w.Commit(); !errors.Is(again, syscall.ENOSPC) {
		t.Errorf("Commit after a failed Write = %v", again)
	}

	// The disk fills during Commit: less than a batch, more than there is room for.
	if err := os.WriteFile(dir+"/ballast", make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if w, err = s.Create(meta(3)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content(3, 3900<<10)); err != nil {
		t.Fatal(err)
	}
	_, err = w.Commit()
	if err := os.Remove(dir + "/ballast"); err != nil {
		t.Fatal(err)
	}
	wantFull(t, dir, "Commit", err)

	// The disk fills while another node's snapshot comes in.
	big := small
	big.Index, big.Size = 4, 20<<20
	wantFull(t, dir, "Receive", s.Receive(big, bytes.NewReader(content(4, 20<<20))))

	// There is room again, and all is as before.
	write(t, s, meta(5), content(5, 100<<10))
	if _, stream := load(t, s, 7, 1); !bytes.Equal(stream, content(1, 100<<10)) {
		t.Error("the snapshot from before has changed")
	}
	t.Log("disk was full")
}

// wantFull requires a typed error that tells a full disk, and nothing left but the first snapshot.
func wantFull(t *testing.T, dir, what string, err error) {
	t.Helper()
	if _, ok := errors.AsType[*snap.WriteError](err); !ok || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%s = %v, want a WriteError of ENOSPC", what, err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("%s leaves %q", what, got)
	}
}
