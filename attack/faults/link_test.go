//go:build linux

package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// link is a TCP proxy in front of an address, in which faults can be put.
type link struct {
	proxy   *toxiproxy.Proxy
	address string // where it listens, also after a restart
}

// between starts a link to an address.
func between(t testing.TB, target string) *link {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{proxy: toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", target)}
	l.up(t)
	l.address = l.proxy.Listen
	t.Cleanup(func() {
		l.heal(t)
		l.down()
	})
	return l
}

// fault is one toxic of a link: of toxiproxy's types with their attributes.
type fault struct {
	kind       string
	stream     string // downstream unless set
	attributes map[string]any
}

// The faults, always in the direction of the answer.
var (
	latency  = fault{kind: "latency", attributes: map[string]any{"latency": 200}}
	bytewise = fault{kind: "slicer", attributes: map[string]any{"average_size": 1}}
	drip     = fault{kind: "slicer", attributes: map[string]any{"average_size": 1, "delay": 30_000}} // 33 bytes a second
	reset    = fault{kind: "reset_peer", attributes: map[string]any{"timeout": 0}}
	halfOpen = fault{kind: "timeout", attributes: map[string]any{"timeout": 0}}
)

// cutAfter closes the connection after some bytes of the answer.
func cutAfter(bytes int) fault {
	return fault{kind: "limit_data", attributes: map[string]any{"bytes": bytes}}
}

// put puts a fault in; connections that exist have it too.
func (l *link) put(t testing.TB, f fault) {
	t.Helper()
	stream := f.stream
	if stream == "" {
		stream = "downstream"
	}
	text, err := json.Marshal(map[string]any{"type": f.kind, "stream": stream, "attributes": f.attributes})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.proxy.Toxics.AddToxicJson(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// heal takes all faults out.
func (l *link) heal(t testing.TB) { l.proxy.Toxics.ResetToxics(context.Background()) }

// down refuses connections and cuts those that exist.
func (l *link) down() { l.proxy.Stop() }

// up takes connections again, at the same address.
func (l *link) up(t testing.TB) {
	t.Helper()
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
}
