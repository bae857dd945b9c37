package transport_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/transport"
)

type snapshotHandler = func(
	ctx context.Context, from, group uint64, m *raftpb.Message, size int64, body io.Reader,
) error

func snapshotMessage() *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(7)),
		Snapshot: &raftpb.Snapshot{
			Data: []byte("manifest"),
			Metadata: &raftpb.SnapshotMetadata{
				Index: new(uint64(90)), Term: new(uint64(6)),
				ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
			},
		},
	}
}

// startSnapshotPair starts a sender that knows a receiver with the given handler.
func startSnapshotPair(t *testing.T, handle snapshotHandler) (sender, receiver *testNode) {
	t.Helper()
	receiver = startNode(t, 2, func(o *transport.Options) {
		o.Handler.(*recorder).onSnapshot = handle
	})
	sender = startNode(t, 1)
	sender.SetPeer(2, receiver.address)
	return sender, receiver
}

func randomBody(size int) []byte {
	p := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(p)
	return p
}

func TestSnapshotArrives(t *testing.T) {
	for _, size := range []int{0, 1, 256 << 10, 256<<10 + 1, 5_000_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			body := randomBody(size)
			durable := false
			check := func(
				_ context.Context, from, group uint64, m *raftpb.Message, n int64, r io.Reader,
			) error {
				got, err := io.ReadAll(r)
				if err != nil {
					return err
				}
				same := proto.Equal(m, snapshotMessage())
				if from != 1 || group != 4 || n != int64(size) || !same {
					return fmt.Errorf("from %d, group %d, size %d, %v", from, group, n, m)
				}
				if sha256.Sum256(got) != sha256.Sum256(body) {
					return fmt.Errorf("%d bytes differ", len(got))
				}
				durable = true
				return nil
			}
			sender, _ := startSnapshotPair(t, check)
			err := sender.SendSnapshot(t.Context(), 2, 4, snapshotMessage(), int64(size),
				iotest.HalfReader(bytes.NewReader(body)))
			if err != nil || !durable {
				t.Errorf("durable %v, error %v", durable, err)
			}
		})
	}
}

// TestSnapshotIsRefused has the handler fail before, while and after it reads the body. The
// sender hears why even though the receiver leaves most of the stream unread.
func TestSnapshotIsRefused(t *testing.T) {
	const size = 64 << 20
	for _, read := range []int64{0, 1, 1 << 20, size} {
		t.Run(fmt.Sprint(read), func(t *testing.T) {
			sender, _ := startSnapshotPair(t, func(
				_ context.Context, _, _ uint64, _ *raftpb.Message, _ int64, r io.Reader,
			) error {
				if _, err := io.CopyN(io.Discard, r, read); err != nil {
					return err
				}
				return errors.New("no space left")
			})
			err := sender.SendSnapshot(t.Context(), 2, 4, snapshotMessage(), size, zeros{})
			if !errors.Is(err, transport.ErrSnapshotRefused) ||
				!strings.Contains(err.Error(), "no space left") {
				t.Errorf("error %v", err)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestSnapshotIsCancelled ends a stream from every side. The receiver's body yields an error,
// never io.EOF, and its context ends.
func TestSnapshotIsCancelled(t *testing.T) {
	errUser := errors.New("not needed any more")
	errDisk := errors.New("disk")
	type ending = func(cancel context.CancelCauseFunc, sender, receiver *testNode)
	cancel := func(cancel context.CancelCauseFunc, _, _ *testNode) { cancel(errUser) }
	closeSender := func(_ context.CancelCauseFunc, sender, _ *testNode) { sender.Close() }
	closeReceiver := func(_ context.CancelCauseFunc, _, receiver *testNode) { go receiver.Close() }
	remove := func(_ context.CancelCauseFunc, sender, _ *testNode) { sender.RemovePeer(2) }
	nothing := func(context.CancelCauseFunc, *testNode, *testNode) {}
	short := io.LimitReader(zeros{}, 1<<20)
	failing := io.MultiReader(io.LimitReader(zeros{}, 1<<20), iotest.ErrReader(errDisk))
	cases := []struct {
		name string
		end  ending
		body io.Reader
		want string
	}{
		{"context", cancel, zeros{}, errUser.Error()},
		{"sender closed", closeSender, zeros{}, "closed"},
		{"receiver closed", closeReceiver, zeros{}, "no answer"},
		{"peer removed", remove, zeros{}, "removed"},
		{"body fails", nothing, failing, "disk"},
		{"body is short", nothing, short, "unexpected EOF"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			begun, received := make(chan struct{}), make(chan error, 1)
			sender, receiver := startSnapshotPair(t, func(
				ctx context.Context, _, _ uint64, _ *raftpb.Message, _ int64, r io.Reader,
			) error {
				io.ReadFull(r, make([]byte, 100))
				close(begun)
				_, err := io.Copy(io.Discard, r)
				<-ctx.Done()
				received <- err
				return err
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			result := make(chan error, 1)
			go func() {
				result <- sender.SendSnapshot(ctx, 2, 4, snapshotMessage(), 1<<40, c.body)
			}()
			<-begun
			c.end(cancel, sender, receiver)
			if err := <-result; err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("sender: %v", err)
			}
			if err := <-received; err == nil {
				t.Error("the receiver's body ended as if it were whole")
			}
		})
	}
}

func TestSnapshotErrors(t *testing.T) {
	sender := startNode(t, 1)
	send := func() error {
		return sender.SendSnapshot(t.Context(), 2, 1, snapshotMessage(), 0, zeros{})
	}
	if err := send(); !errors.Is(err, transport.ErrUnknownPeer) {
		t.Errorf("unknown peer: %v", err)
	}
	sender.SetPeer(2, "127.0.0.1:1")
	if err := send(); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("unreachable peer: %v", err)
	}
	large := snapshotMessage()
	large.Snapshot.Data = make([]byte, 64<<20)
	err := sender.SendSnapshot(t.Context(), 2, 1, large, 0, zeros{})
	if !errors.Is(err, transport.ErrFrameTooLarge) {
		t.Errorf("large message: %v", err)
	}
	sender.Close()
	if err := send(); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
