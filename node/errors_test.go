package node_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"strings"
	"testing"

	"github.com/connectraft/connect/node"
)

// later, elsewhere and never are the advices for what was surely not applied.
var (
	later     = node.Advice{Outcome: node.NotApplied, RetrySafe: true, Ask: node.AskAnyone}
	elsewhere = node.Advice{Outcome: node.NotApplied, RetrySafe: true, Ask: node.AskAnother}
	never     = node.Advice{Outcome: node.NotApplied, RetrySafe: true, Ask: node.AskNobody}
)

// advised is every error of the package, and what it must mean.
var advised = map[string]struct {
	err  error
	want node.Advice
}{
	"ErrNoLeader":       {node.ErrNoLeader, later},
	"ErrBehind":         {node.ErrBehind, later},
	"ErrOverloaded":     {node.ErrOverloaded, later},
	"ErrDiskFull":       {node.ErrDiskFull, later},
	"ErrTooLarge":       {node.ErrTooLarge, never},
	"ErrClosed":         {node.ErrClosed, elsewhere},
	"ErrGroupFailed":    {node.ErrGroupFailed, elsewhere},
	"ErrGroupRemoved":   {node.ErrGroupRemoved, never},
	"ErrGroupExists":    {node.ErrGroupExists, never},
	"ErrNoGroup":        {node.ErrNoGroup, never},
	"ErrGroupID":        {node.ErrGroupID, never},
	"ErrTooManyGroups":  {node.ErrTooManyGroups, never},
	"ErrSessionExpired": {node.ErrSessionExpired, node.Advice{Outcome: node.NotApplied}},
	"ErrSequenceTooOld": {node.ErrSequenceTooOld, node.Advice{Outcome: node.Unknown}},
	"ErrSessionFull":    {node.ErrSessionFull, later},
	"ErrConflict":       {node.ErrConflict, never},
	"ErrInvalidChange":  {node.ErrInvalidChange, never},
	"ErrChangePending":  {node.ErrChangePending, later},
	"ErrNoQuorum":       {node.ErrNoQuorum, later},
	"ErrTransferFailed": {node.ErrTransferFailed, later},
	"ErrNotAdded":       {node.ErrNotAdded, elsewhere},
	"ErrRemoved":        {node.ErrRemoved, elsewhere},
	"ErrRefused":        {node.ErrRefused, elsewhere},
	"ChangeError":       {&node.ChangeError{Err: node.ErrNoQuorum}, later},
	"ErrUnknown":        {node.ErrUnknown, node.Advice{Outcome: node.Unknown}},
	"NotLeaderError": {&node.NotLeaderError{Leader: 3},
		node.Advice{Outcome: node.NotApplied, RetrySafe: true, Ask: node.AskLeader, Leader: 3}},
}

// TestAdviceOfEveryError holds the advice for each error of the package, bare and wrapped.
func TestAdviceOfEveryError(t *testing.T) {
	for name, a := range advised {
		if got := node.AdviceOf(a.err); got != a.want {
			t.Errorf("%s: %+v, want %+v", name, got, a.want)
		}
		wrapped := fmt.Errorf("why: %w before %w", a.err, context.Canceled)
		if got := node.AdviceOf(wrapped); got != a.want {
			t.Errorf("%s, wrapped: %+v, want %+v", name, got, a.want)
		}
		if node.OutcomeOf(a.err) != a.want.Outcome {
			t.Errorf("%s: OutcomeOf and AdviceOf differ", name)
		}
	}
	others := map[error]node.Advice{
		nil:                     {Outcome: node.Applied},
		errors.New("a new one"): {Outcome: node.Unknown},
		&node.NotLeaderError{}:  later,
		// What a change has begun it goes on with.
		&node.ChangeError{Err: node.ErrUnknown, Begun: true}: {Outcome: node.Unknown,
			RetrySafe: true},
	}
	for err, want := range others {
		if got := node.AdviceOf(err); got != want {
			t.Errorf("%v: %+v, want %+v", err, got, want)
		}
	}
}

// TestEveryErrorHasAnAdvice finds the exported errors of the package in its source, so that a
// new one is not forgotten.
func TestEveryErrorHasAnAdvice(t *testing.T) {
	names := exportedErrors(t)
	for name := range names {
		if _, ok := advised[name]; !ok {
			t.Errorf("%s has no advice, or its advice has no test", name)
		}
	}
	for name := range advised {
		if !names[name] {
			t.Errorf("%s is not in the source: does this test still find the errors?", name)
		}
	}
}

func exportedErrors(t *testing.T) map[string]bool {
	t.Helper()
	own := func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }
	packages, err := parser.ParseDir(token.NewFileSet(), ".", own, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range packages["node"].Files {
		for _, decl := range file.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				switch s := spec.(type) {
				case *ast.ValueSpec:
					for _, name := range s.Names {
						if strings.HasPrefix(name.Name, "Err") {
							names[name.Name] = true
						}
					}
				case *ast.TypeSpec:
					if s.Name.IsExported() && strings.HasSuffix(s.Name.Name, "Error") {
						names[s.Name.Name] = true
					}
				}
			}
		}
	}
	return names
}
