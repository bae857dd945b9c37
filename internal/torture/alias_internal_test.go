package torture

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// An alias tells the gateway where the node tells its own address, and changes nothing else.
func TestAnAliasTellsTheGateway(t *testing.T) {
	const peer = "127.0.0.1:7101"
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"peer":%q,"text":"at %s"}`, peer, peer)
	}))
	defer node.Close()
	n, err := newNetwork([]string{peer})
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	a, err := newAlias(&cluster{network: n},
		&process{peer: peer, admin: strings.TrimPrefix(node.URL, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + a.address())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	var got map[string]string
	if err != nil || json.Unmarshal(body, &got) != nil {
		t.Fatalf("%q, %v", body, err)
	}
	if got["peer"] != n.gateways[0].address() || got["text"] != "at "+peer {
		t.Errorf("it says %q", got)
	}
}

// A connection that does not begin with a hello of a node that is known leads nowhere.
func TestStrangersDoNotPass(t *testing.T) {
	p := dialPair(t)
	stranger := greet(t, p.network, 8, 1)
	defer stranger.Close()
	if _, err := io.ReadAll(stranger); err != nil {
		t.Logf("the end: %v", err)
	}
	if got := p.network.links[0][1].accepted.Load(); got != 1 {
		t.Errorf("%d connections passed, want one", got)
	}
}
