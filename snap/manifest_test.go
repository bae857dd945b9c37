package snap_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/connectraft/connect/snap"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func TestManifestRoundTrip(t *testing.T) {
	m := snap.Manifest{Meta: meta(5), Size: 12345, Digest: [32]byte{1, 2, 31: 3}}
	m.ConfState.VotersOutgoing = []uint64{1}
	m.ConfState.AutoLeave = new(true)
	m.Time = -5
	encoded, err := m.AppendBinary([]byte("prefix"))
	if err != nil {
		t.Fatal(err)
	}
	encoded = encoded[len("prefix"):]
	got, err := snap.ParseManifest(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if !equalMeta(got.Meta, m.Meta) || got.Size != m.Size || got.Digest != m.Digest {
		t.Errorf("got %+v, want %+v", got, m)
	}
	for length := range encoded {
		if _, err := snap.ParseManifest(encoded[:length]); !errors.Is(err, snap.ErrInvalid) {
			t.Errorf("the first %d bytes: %v", length, err)
		}
	}
	if _, err := snap.ParseManifest(append(encoded, 0)); !errors.Is(err, snap.ErrInvalid) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestManifestLimits(t *testing.T) {
	voters := func(count int) *raftpb.ConfState {
		ids := make([]uint64, count)
		for i := range ids {
			ids[i] = 1<<63 + uint64(i) // ten bytes each, as large as an id can be
		}
		return &raftpb.ConfState{Voters: ids}
	}
	s := open(t, t.TempDir())
	for _, test := range []struct {
		name   string
		change func(*snap.Meta)
		ok     bool
	}{
		{"no membership", func(m *snap.Meta) { m.ConfState = nil }, true},
		{"64 members", func(m *snap.Meta) { m.ConfState = voters(64) }, true},
		{"128 members", func(m *snap.Meta) { m.ConfState = voters(128) }, false},
		{"machine of 64 bytes", func(m *snap.Meta) { m.Machine = strings.Repeat("m", 64) }, true},
		{"machine of 65 bytes", func(m *snap.Meta) { m.Machine = strings.Repeat("m", 65) }, false},
		{"index 0", func(m *snap.Meta) { m.Index = 0 }, false},
	} {
		m := meta(5)
		test.change(&m)
		encoded, err := snap.Manifest{Meta: m, Size: 1 << 40}.AppendBinary(nil)
		if (err == nil) != test.ok || len(encoded) > 1024 {
			t.Errorf("%s: %d bytes, %v", test.name, len(encoded), err)
		}
		w, createErr := s.Create(m)
		if !test.ok {
			if !errors.Is(err, snap.ErrInvalid) || !errors.Is(createErr, snap.ErrInvalid) {
				t.Errorf("%s: AppendBinary = %v, Create = %v", test.name, err, createErr)
			}
			continue
		}
		if createErr != nil {
			t.Fatalf("%s: %v", test.name, createErr)
		}
		if _, err := w.Commit(); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		got, _ := load(t, s, m.Group, m.Index)
		want := m.ConfState
		if want == nil {
			want = &raftpb.ConfState{}
		}
		if got.Machine != m.Machine || !proto.Equal(got.ConfState, want) {
			t.Errorf("%s: loaded %+v", test.name, got)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	valid, err := snap.Manifest{Meta: meta(5), Size: 999}.AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 1024))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := snap.ParseManifest(b)
		if err != nil {
			if !errors.Is(err, snap.ErrInvalid) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		again, err := m.AppendBinary(nil)
		if err != nil {
			// Only a membership in a longer form than ours can outgrow the limit.
			return
		}
		back, err := snap.ParseManifest(again)
		if err != nil || !equalMeta(back.Meta, m.Meta) || back.Size != m.Size {
			t.Errorf("%+v becomes %+v, %v", m, back, err)
		}
	})
}
