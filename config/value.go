package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// value is one key's way between TOML and a field of Config.
type value interface {
	// set takes what the TOML library made of the file and reports whether it is allowed. The
	// field is unchanged when it is not.
	set(v any) bool
	// want says what is allowed.
	want() string
	// String returns the field as TOML.
	String() string
}

// clusterID is the name of a cluster.
type clusterID struct{ field *string }

var clusterIDPattern = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func (c clusterID) set(v any) bool {
	s, ok := v.(string)
	if ok = ok && clusterIDPattern.MatchString(s); ok {
		*c.field = s
	}
	return ok
}

func (c clusterID) want() string   { return "1 to 63 characters of a-z, 0-9 and -" }
func (c clusterID) String() string { return quote(*c.field) }

// path is the name of a directory.
type path struct{ field *string }

func (p path) set(v any) bool {
	s, ok := v.(string)
	if ok = ok && s != "" && utf8.ValidString(s) && !strings.ContainsRune(s, 0); ok {
		*p.field = s
	}
	return ok
}

func (p path) want() string   { return `a directory of this node alone, such as "data/1"` }
func (p path) String() string { return quote(*p.field) }

// address is a host and a port, both of which are there.
type address struct {
	field   *string
	example string
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?$`)

func (a address) set(v any) bool {
	s, ok := v.(string)
	if !ok {
		return false
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	if _, err := netip.ParseAddr(host); err != nil && !hostPattern.MatchString(host) {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return false
	}
	*a.field = s
	return true
}

func (a address) want() string   { return `host:port, such as "` + a.example + `"` }
func (a address) String() string { return quote(*a.field) }

// number is an integer in a range, both ends included.
type number[T int | int64 | uint64] struct {
	field    *T
	min, max T
}

func (n number[T]) set(v any) bool {
	i, ok := v.(int64)
	if ok = ok && i >= int64(n.min) && i <= int64(n.max); ok {
		*n.field = T(i)
	}
	return ok
}

func (n number[T]) want() string {
	if uint64(n.max) == math.MaxInt64 {
		return fmt.Sprintf("a number of %d or more", n.min)
	}
	return fmt.Sprintf("a number from %d to %d", n.min, n.max)
}

func (n number[T]) String() string { return fmt.Sprint(*n.field) }

// duration is a time in Go's syntax.
type duration struct {
	field    *time.Duration
	min, max time.Duration
}

func (d duration) set(v any) bool {
	s, ok := v.(string)
	if !ok {
		return false
	}
	parsed, err := time.ParseDuration(s)
	if err != nil || parsed < d.min || parsed > d.max {
		return false
	}
	*d.field = parsed
	return true
}

func (d duration) want() string {
	return fmt.Sprintf(`a time from "%s" to "%s"`, shortDuration(d.min), shortDuration(d.max))
}

func (d duration) String() string { return quote(shortDuration(*d.field)) }

// shortDuration drops the zero seconds and minutes that time.Duration prints.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// size is a number of bytes with its unit.
type size struct {
	field    *int64
	min, max int64
}

// sizeUnits are in the order in which they are tried.
func sizeUnits() []sizeUnit {
	return []sizeUnit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

type sizeUnit struct {
	name  string
	bytes int64
}

func (z size) set(v any) bool {
	s, ok := v.(string)
	if !ok {
		return false
	}
	bytes, ok := parseSize(s)
	if ok = ok && bytes >= z.min && bytes <= z.max; ok {
		*z.field = bytes
	}
	return ok
}

func parseSize(s string) (int64, bool) {
	for _, unit := range sizeUnits() {
		digits, ok := strings.CutSuffix(s, unit.name)
		if !ok {
			continue
		}
		count, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || int64(count) > math.MaxInt64/unit.bytes {
			return 0, false
		}
		return int64(count) * unit.bytes, true
	}
	return 0, false
}

func (z size) want() string {
	return fmt.Sprintf(`a size from "%s" to "%s" in B, KiB, MiB or GiB`,
		formatSize(z.min), formatSize(z.max))
}

func (z size) String() string { return quote(formatSize(*z.field)) }

// formatSize takes the largest unit that needs no fraction.
func formatSize(bytes int64) string {
	for _, unit := range sizeUnits() {
		if bytes != 0 && bytes%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", bytes/unit.bytes, unit.name)
		}
	}
	return "0B"
}

// boolean is true or false.
type boolean struct{ field *bool }

func (b boolean) set(v any) bool {
	set, ok := v.(bool)
	if ok {
		*b.field = set
	}
	return ok
}

func (b boolean) want() string   { return "true or false" }
func (b boolean) String() string { return strconv.FormatBool(*b.field) }

// quote returns s as a basic string of TOML, whose escapes are fewer than those of Go.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
