package server

import "testing"

func TestConnectionsLeaveFilesForTheNode(t *testing.T) {
	for _, test := range []struct{ wanted, files, want int }{
		{10_000, 0, 10_000},
		{10_000, 1 << 20, 10_000},
		{10_000, 10_512, 10_000},
		{10_000, 10_511, 9_999},
		{10_000, 1024, 512},
		{10_000, 64, 32},
		{10_000, 1, 1},
		{5, 1024, 5},
	} {
		if got := connectionsFor(test.wanted, test.files); got != test.want {
			t.Errorf("%d connections wanted, %d files: got %d, want %d",
				test.wanted, test.files, got, test.want)
		}
	}
	if files := openFiles(); files < 0 {
		t.Errorf("%d open files", files)
	}
}
