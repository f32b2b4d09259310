package interop_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// upstream is the MCP server behind the gateway, and what reached it.
type upstream struct {
	url string

	mu       sync.Mutex
	messages []reached
}

// reached is one message that the gateway let through.
type reached struct {
	Method string
	Params struct {
		Name string
		URI  string
	}
	credential string // of the Authorization header; "" where there is none
}

// startUpstream serves handler on loopback and records the messages it gets.
func startUpstream(t *testing.T, handler http.Handler) *upstream {
	t.Helper()
	u := &upstream{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			u.record(body, r.Header.Get("Authorization"))
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // streams of clients that are gone
		server.Close()
	})
	u.url = server.URL
	return u
}

func (u *upstream) record(body []byte, credential string) {
	message := reached{credential: credential}
	if err := json.Unmarshal(body, &message); err != nil {
		message.Method = "not JSON: " + err.Error()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.messages = append(u.messages, message)
}

// got answers the messages with a method that reached the upstream.
func (u *upstream) got(method string) []reached {
	u.mu.Lock()
	defer u.mu.Unlock()
	var found []reached
	for _, message := range u.messages {
		if message.Method == method {
			found = append(found, message)
		}
	}
	return found
}

// credentials answers the Authorization headers that reached the upstream.
func (u *upstream) credentials() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var found []string
	for _, message := range u.messages {
		if message.credential != "" {
			found = append(found, message.credential)
		}
	}
	return found
}
