package stiletest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile/stiletest"
)

// TestIssuerInBubble: an issuer without a network, in the fake time of a
// synctest bubble, whose tokens expire on time.
func TestIssuerInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := stiletest.NewIssuer(stiletest.IssuerOptions{URL: "https://as.example/realms/acme", Lifetime: time.Hour})
		client := issuer.Client()
		res, err := client.Get("https://as.example/.well-known/oauth-authorization-server/realms/acme")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != 200 || !strings.Contains(string(body), `"issuer":"https://as.example/realms/acme"`) {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		token := issuer.Token(stiletest.Claims{})
		active := func() bool {
			req, err := http.NewRequestWithContext(t.Context(), "POST", issuer.EndpointURL(stiletest.EndpointIntrospect), strings.NewReader(url.Values{"token": {token}}.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.SetBasicAuth(stiletest.ResourceServer().ID, stiletest.ResourceServer().Secret)
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			return strings.Contains(string(body), `"active":true`)
		}
		time.Sleep(time.Hour - time.Second)
		if !active() {
			t.Error("the token ended early")
		}
		time.Sleep(time.Second)
		if active() {
			t.Error("the token lives on after its hour")
		}
	})
}

func TestInMemoryEnds(t *testing.T) {
	issuer := stiletest.NewIssuer(stiletest.IssuerOptions{URL: "https://as.example"})
	issuer.Drop(true)
	if _, err := issuer.Client().Get(issuer.EndpointURL(stiletest.EndpointJWKS)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a connection that is cut: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	hanging := stiletest.InMemory{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})}
	req, err := http.NewRequestWithContext(ctx, "GET", "https://as.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hanging.RoundTrip(req); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that is cancelled: %v", err)
	}
}

// TestInMemoryRequest: the handler sees what it would see behind a listener.
func TestInMemoryRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	client := &http.Client{Transport: stiletest.InMemory{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("X-Y", "z")
		w.WriteHeader(418)
		io.WriteString(w, "short")
	})}}
	res, err := client.Post("https://mcp.example.com/a?b=c", "text/plain", strings.NewReader("in"))
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(res.Body)
	if res.StatusCode != 418 || res.Header.Get("X-Y") != "z" || string(out) != "short" {
		t.Errorf("answered %d %v %s", res.StatusCode, res.Header, out)
	}
	if got.Host != "mcp.example.com" || got.RequestURI != "/a?b=c" || got.Proto != "HTTP/1.1" || string(body) != "in" {
		t.Errorf("asked %s %s %s %s", got.Host, got.RequestURI, got.Proto, body)
	}
}
