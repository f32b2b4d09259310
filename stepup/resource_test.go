package stepup_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stile-mcp/stile/stepup"
)

// The URL for messages of an older server has no login of its own, and what is on
// another origin gets none.
func TestPartsOfAnEndpoint(t *testing.T) {
	var got string
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") })
	server, other := httptest.NewServer(h), httptest.NewServer(h)
	defer server.Close()
	defer other.Close()
	store := stepup.NewMemory()
	saved, err := json.Marshal(stepup.Login{Resource: server.URL + "/sse", AccessToken: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "login "+server.URL+"/sse", saved); err != nil {
		t.Fatal(err)
	}
	tr, err := stepup.New(stepup.Config{Store: store, Person: &person{}, Base: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ url, endpoint, want string }{
		{server.URL + "/sse?k=1", "", "Bearer mine"},
		{server.URL + "/messages?s=1", "", ""},
		{server.URL + "/messages?s=1", server.URL + "/sse?k=1", "Bearer mine"},
		{other.URL + "/messages", server.URL + "/sse", ""},
		{server.URL + "/messages", "%", ""},
	} {
		ctx := t.Context()
		if c.endpoint != "" {
			ctx = stepup.WithResource(ctx, c.endpoint)
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		want(t, c.url+" of "+c.endpoint, got, c.want)
	}
}

// The end of a session is worth no window.
func TestNobodyIsAskedForTheEndOfASession(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer server.Close()
	p := &person{}
	tr, err := stepup.New(stepup.Config{Person: p, Base: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, server.URL+"/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	want(t, "status", resp.StatusCode, http.StatusUnauthorized)
	want(t, "questions", len(p.requests()), 0)
}
