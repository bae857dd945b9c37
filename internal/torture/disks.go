package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// disks are small file systems in memory, one for each node, where the system lets us mount them.
type disks struct {
	mounted []string
	reason  string // why there are none; empty if there are
}

const (
	diskBytes  = "48m"
	fillerName = "filler"
)

func newDisks() *disks { return &disks{} }

// mount makes dir a file system of its own. What cannot be mounted stays an ordinary directory.
func (d *disks) mount(dir string) {
	if d.reason != "" {
		return
	}
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+diskBytes, "connect-torture", dir).
		CombinedOutput()
	if err != nil {
		d.reason = fmt.Sprintf("a small file system cannot be mounted: %v: %s", err, out)
		return
	}
	d.mounted = append(d.mounted, dir)
}

// fill takes all the room of a node's disk and reports how many bytes that was.
func (d *disks) fill(p *process) (bytes int64, _ error) {
	p.filled.Store(true)
	f, err := os.OpenFile(filepath.Join(filepath.Dir(p.dir), fillerName),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		n, err := f.Write(block)
		bytes += int64(n)
		if err != nil {
			block = block[:len(block)/2]
		}
	}
	return bytes, f.Close()
}

// empty gives the room back on all disks.
func (d *disks) empty() error {
	var errs []error
	for _, dir := range d.mounted {
		err := os.Remove(filepath.Join(dir, fillerName))
		if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// close unmounts. The data is lost with it, except in what was copied.
func (d *disks) close() error {
	var errs []error
	for _, dir := range d.mounted {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("umount %s: %w: %s", dir, err, out))
		}
	}
	d.mounted = nil
	return errors.Join(errs...)
}
