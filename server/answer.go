package server

import (
	"fmt"
	"strings"

	"github.com/tidwall/redcon"
)

// Simple is an answer in RESP's short form, such as OK.
type Simple string

// An answer may be any of these Go types, or an interface that holds one:
//
//	int, int64, uint64, bool    integer (a bool is 1 or 0)
//	string, []byte              bulk string
//	Simple                      simple string
//	nil, a nil []byte           null
//	[]string, [][]byte, []any   array, of any of these
//	error                       error
//
// appendAnswer appends its RESP form; ok is false for any other type, and nothing useful is in the
// result then.
func appendAnswer(dst []byte, answer any) (_ []byte, ok bool) {
	switch a := answer.(type) {
	case nil:
		return redcon.AppendNull(dst), true
	case int:
		return redcon.AppendInt(dst, int64(a)), true
	case int64:
		return redcon.AppendInt(dst, a), true
	case uint64:
		return redcon.AppendUint(dst, a), true
	case bool:
		if a {
			return redcon.AppendInt(dst, 1), true
		}
		return redcon.AppendInt(dst, 0), true
	case string:
		return redcon.AppendBulkString(dst, a), true
	case Simple:
		return redcon.AppendString(dst, string(a)), true
	case error:
		return appendError(dst, a.Error()), true
	case []byte:
		if a == nil {
			return redcon.AppendNull(dst), true
		}
		return redcon.AppendBulk(dst, a), true
	case []string:
		return appendArray(dst, a)
	case [][]byte:
		return appendArray(dst, a)
	case []any:
		return appendArray(dst, a)
	}
	return dst, false
}

func appendArray[T any](dst []byte, items []T) (_ []byte, ok bool) {
	dst = redcon.AppendArray(dst, len(items))
	for _, item := range items {
		if dst, ok = appendAnswer(dst, item); !ok {
			return dst, false
		}
	}
	return dst, true
}

// appendError appends a RESP error. A text that does not begin with a word in capitals, which is
// how Redis names the kind of an error, gets the general one: ERR.
func appendError(dst []byte, text string) []byte {
	word, _, _ := strings.Cut(text, " ")
	isKind := word != "" && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
	if !isKind {
		text = "ERR " + text
	}
	return redcon.AppendError(dst, text)
}

// noForm is the answer that stands in for one of a type that has no RESP form.
func noForm(answer any) string {
	return fmt.Sprintf("ERR the service answered with a %T, which has no RESP form", answer)
}
