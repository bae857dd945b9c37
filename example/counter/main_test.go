package main

import (
	"os"
	"strings"
	"testing"
)

// codeLines are the lines of a source that are neither blank nor a comment.
func codeLines(source string) (lines []string) {
	for line := range strings.Lines(source) {
		text := strings.TrimSpace(line)
		if text != "" && !strings.HasPrefix(text, "//") {
			lines = append(lines, line)
		}
	}
	return lines
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheCounterIsShort(t *testing.T) {
	if n := len(codeLines(read(t, "main.go"))); n > 18 {
		t.Errorf("%d lines of code, want at most 18", n)
	}
}

func TestTheReadmeShowsTheCounter(t *testing.T) {
	readme := read(t, "../../README.md")
	_, rest, found := strings.Cut(readme, "```go\n")
	shown, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("README.md shows no Go source")
	}
	_, source, _ := strings.Cut(read(t, "main.go"), "package main\n")
	if shown != "package main\n"+source {
		t.Errorf("README.md shows\n%s\nand main.go has\n%s", shown, source)
	}
	if n := strings.Count(readme, "\n"); n > 200 {
		t.Errorf("README.md has %d lines, want at most 200", n)
	}
}
