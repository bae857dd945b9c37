package torture

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

// alias is another address of a node's admin listener, which tells the gateway as the node's peer
// address: that is what the cluster learns when the node joins, so that all go through the links. A
// node itself can only tell where it listens.
type alias struct {
	listener net.Listener
	server   *http.Server
	served   sync.WaitGroup
}

func newAlias(c *cluster, p *process) (*alias, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	peer, gateway := p.peer, c.network.gateways[p.number].address()
	admin := url.URL{Scheme: "http", Host: p.admin}
	quiet := log.New(io.Discard, "", 0)
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(&admin) },
		ModifyResponse: func(r *http.Response) error { return replaceInBody(r, peer, gateway) },
		Transport:      &http.Transport{DisableKeepAlives: true},
		ErrorLog:       quiet,
	}
	a := &alias{listener: listener, server: &http.Server{Handler: proxy, ErrorLog: quiet}}
	a.served.Go(func() { _ = a.server.Serve(listener) }) // it ends with an error, always
	return a, nil
}

func (a *alias) address() string { return a.listener.Addr().String() }

func (a *alias) close() {
	_ = a.server.Close()
	a.served.Wait()
}

func replaceInBody(r *http.Response, old, with string) error {
	const bytesMax = 1 << 20
	body, err := io.ReadAll(io.LimitReader(r.Body, bytesMax))
	if err != nil {
		return err
	}
	if err := r.Body.Close(); err != nil {
		return err
	}
	text := strings.ReplaceAll(string(body), strconv.Quote(old), strconv.Quote(with))
	r.Body = io.NopCloser(strings.NewReader(text))
	r.ContentLength = int64(len(text))
	r.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}
