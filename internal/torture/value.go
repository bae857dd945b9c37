package torture

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

const (
	paddingSeldom = 8        // one value in so many is large
	paddingMax    = 12 << 10 // within limits.command of the configuration
)

// pad makes of the short name of a value, by which histories know it, what is stored. Some are
// large, so that frames, segments and snapshots are of all sizes.
func pad(name string) string {
	sum := sha256.Sum256([]byte(name))
	draw := binary.LittleEndian.Uint32(sum[:])
	if !strings.Contains(name, ".") || draw%paddingSeldom != 0 { // the values of counters have none
		return name
	}
	return name + " " + strings.Repeat(name[:1], int(draw/paddingSeldom%paddingMax))
}

// unpad is the reverse of pad. ok is false if stored is not whole.
func unpad(stored string) (name string, ok bool) {
	name, _, _ = strings.Cut(stored, " ")
	return name, stored == "" || name != "" && pad(name) == stored
}
