package server

import (
	"net/http"
	"time"

	"github.com/connectraft/connect/internal/admin"
	"github.com/connectraft/connect/node"
)

// eventsBuffered is how many events wait for one that reads slowly; more are dropped and counted.
const eventsBuffered = 1024

// getEvents streams what happens on this node from now on.
func (a *adminListener) getEvents(w http.ResponseWriter, r *http.Request) {
	s, release, err := a.openStream(w)
	if err != nil {
		answerError(w, err)
		return
	}
	defer release()
	subscription := a.server.node.Subscribe(eventsBuffered)
	defer subscription.Close()
	ticker := time.NewTicker(streamPeriod)
	defer ticker.Stop()
	for err == nil {
		select {
		case e, more := <-subscription.C:
			if !more {
				return
			}
			err = s.send(eventOf(a.server.config.Node.ID, &e))
		case <-ticker.C:
			err = s.alive()
		case <-r.Context().Done():
			return
		}
	}
}

func eventOf(id uint64, e *node.Event) *admin.Event {
	return &admin.Event{Node: id, Time: e.Time, Kind: string(e.Kind), Group: e.Group, Peer: e.Peer,
		Term: e.Term, Index: e.Index, Bytes: e.Bytes, Took: e.Took, Detail: e.Detail,
		Missed: e.Missed}
}
