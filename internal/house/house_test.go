package house_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/connectraft/connect/"
)

// source is a Go file of the module.
type source struct {
	path string // from the root, with slashes
	dir  string // the package, "." for the root
	test bool
	ast  *ast.File
	set  *token.FileSet
}

// imports returns the paths of what the file imports.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.ast.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser has accepted it
		}
		paths = append(paths, path)
	}
	return paths
}

// place tells where a node of the syntax stands.
func (s source) place(pos token.Pos) string {
	return s.path + ":" + strconv.Itoa(s.set.Position(pos).Line)
}

// walk calls visit for every file of the module, and not for those of modules within it.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() {
			visit(path)
			return nil
		}
		name := entry.Name()
		hidden := strings.HasPrefix(name, ".") && name != ".ci"
		if path != root && (hidden || name == "testdata" || name == "bin") {
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != root {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// relative returns a path as seen from the root.
func relative(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Rel(root, path)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.ToSlash(path)
}

func sources(t *testing.T) []source {
	t.Helper()
	var files []source
	walk(t, func(path string) {
		if filepath.Ext(path) != ".go" {
			return
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		name := relative(t, path)
		dir, _ := filepath.Split(name)
		files = append(files, source{path: name, dir: strings.TrimSuffix(cmp.Or(dir, "."), "/"),
			test: strings.HasSuffix(name, "_test.go"), ast: file, set: set})
	})
	if len(files) == 0 {
		t.Fatal("no sources found")
	}
	return files
}

func TestImportsWithinTheModule(t *testing.T) {
	allowed := make(map[[2]string]bool)
	for _, e := range edges() {
		if e.reason == "" {
			t.Errorf("%s may import %s for no reason", e.from, e.to)
		}
		allowed[[2]string{e.from, e.to}] = true
	}
	for _, s := range sources(t) {
		for _, path := range s.imports() {
			to, ours := strings.CutPrefix(path, module)
			if ours && !s.test && !allowed[[2]string{s.dir, to}] {
				t.Errorf("%s imports %s, which is not in the table of internal/house/table_test.go: "+
					"imports point one way", s.path, to)
			}
		}
	}
}

func TestImportsOfOthers(t *testing.T) {
	for _, s := range sources(t) {
		for _, path := range s.imports() {
			host, _, _ := strings.Cut(path, "/")
			if s.test || strings.HasPrefix(path, module) || !strings.Contains(host, ".") {
				continue
			}
			i := slices.IndexFunc(dependencies(), func(d dependency) bool {
				return path == d.module || strings.HasPrefix(path, d.module+"/")
			})
			if i < 0 {
				t.Errorf("%s imports %s, a dependency that nobody has given a reason for", s.path, path)
			} else if d := dependencies()[i]; !slices.Contains(d.users, s.dir) {
				t.Errorf("%s imports %s, which is for %s alone", s.path, path,
					strings.Join(d.users, ", "))
			}
		}
	}
}

// Core and apply stage can be simulated because nothing in them happens by itself.
func TestReplicaAndStageArePure(t *testing.T) {
	impure := []string{"context", "io/fs", "log", "log/slog", "math/rand", "math/rand/v2", "net", "os",
		"crypto/rand", "sync", "sync/atomic", "syscall"}
	clocks := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker",
		"NewTimer"}
	for _, s := range sources(t) {
		if s.test || s.dir != "internal/replica" && s.dir != "internal/apply" {
			continue
		}
		for _, path := range s.imports() {
			if slices.Contains(impure, path) {
				t.Errorf("%s imports %s: the core has no goroutine, clock, random source, file, socket "+
					"or lock", s.path, path)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
				t.Errorf("%s: the core has no goroutine and no channel", s.place(n.Pos()))
			case *ast.SelectorExpr:
				from, _ := n.X.(*ast.Ident)
				if from != nil && from.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
					t.Errorf("%s: the core has no clock; time is told to it", s.place(n.Pos()))
				}
			}
			return true
		})
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := make(map[string][]string)
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		files := comments[s.dir]
		if s.ast.Doc != nil {
			files = append(files, s.path)
			text := s.ast.Doc.Text()
			begin := "Package " + s.ast.Name.Name + " "
			if s.ast.Name.Name == "main" {
				name := filepath.Base(s.dir)
				begin = strings.ToUpper(name[:1]) + name[1:] + " "
			}
			if !strings.HasPrefix(text, begin) {
				t.Errorf("%s: the package comment does not begin with %q", s.path, begin)
			}
		}
		comments[s.dir] = files
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("package %s has %d package comments, want exactly one: %s",
				dir, len(files), strings.Join(files, ", "))
		}
	}
}

func TestNoInitAndNoTestHelpersInProduction(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if slices.Contains(s.imports(), "testing") && !strings.HasSuffix(s.dir, "test") {
			t.Errorf("%s imports testing: helpers of tests live in *_test.go or in a package ...test",
				s.path)
		}
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: nothing happens by itself when a package is imported", s.place(f.Pos()))
			}
		}
	}
}

func TestNoUnfinishedWork(t *testing.T) {
	marks := []string{"TO" + "DO", "FIX" + "ME"}
	walk(t, func(path string) {
		if !slices.Contains([]string{".go", ".md", ".sh", ".toml", ""}, filepath.Ext(path)) {
			return
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(data), "\n") {
			for _, mark := range marks {
				if strings.Contains(line, mark) {
					t.Errorf("%s:%d has a %s: do it, or say in docs/ what is not there",
						relative(t, path), i+1, mark)
				}
			}
		}
	})
}
