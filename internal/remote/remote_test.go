package remote_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile/internal/remote"
	"github.com/stile-mcp/stile/internal/sse"
)

// says is a server that says one thing, and keeps what it was asked.
type says struct {
	media, body string
	asked       *http.Request
}

func (s *says) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked = r
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {s.media}}, Body: io.NopCloser(strings.NewReader(s.body))}, nil
}

func TestEach(t *testing.T) {
	for _, c := range []struct {
		name, media, body string
		max               int
		want              []string
		lastID            string
		retry             time.Duration
		wrong             any
	}{
		{"one message", "application/json", `{"id":1}`, 0, []string{`{"id":1}`}, "", 0, nil},
		{"nothing", "application/json", " \n", 0, nil, "", 0, nil},
		{"too long", "application/json", strings.Repeat("x", 11), 10, nil, "", 0, new(*remote.TooLargeError)},
		{"a stream", "Text/Event-Stream; charset=utf-8", "id: a\nretry: 20\ndata:\n\n: hi\n\nid: b\ndata: 1\ndata: 2\n\ndata: 3\n\ndata: lost", 0, []string{"1\n2", "3"}, "b", 20 * time.Millisecond, nil},
		{"an id that no header can carry", "text/event-stream", "id: a\ndata: 1\n\nid: b\x01\ndata: 2\n\n", 0, []string{"1", "2"}, "", 0, nil},
		{"a pause without end", "text/event-stream", "retry: 999999999999\ndata: 1\n\n", 0, []string{"1"}, "", remote.MaxPause, nil},
		{"a long event", "text/event-stream", "data: 1\n\ndata: " + strings.Repeat("x", 100) + "\n\n", 50, []string{"1"}, "", 0, new(*sse.TooLargeError)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := remote.Server{Transport: &says{media: c.media, body: c.body}, Max: c.max}
			a, err := s.Post(t.Context(), http.Header{}, []byte(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			err = a.Each(func(line []byte) bool { got = append(got, string(line)); return true })
			if c.wrong == nil && err != nil || c.wrong != nil && !errors.As(err, c.wrong) {
				t.Errorf("error %v", err)
			}
			if !slices.Equal(got, c.want) || a.LastID != c.lastID || a.Retry != c.retry {
				t.Errorf("%q, id %q, retry %v", got, a.LastID, a.Retry)
			}
		})
	}
}

func TestEachStops(t *testing.T) {
	s := remote.Server{Transport: &says{media: "text/event-stream", body: "data: 1\n\ndata: 2\n\n"}}
	a, err := s.Get(t.Context(), http.Header{}, "7")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := a.Each(func([]byte) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("%d messages, error %v", n, err)
	}
}

func TestRequests(t *testing.T) {
	there := &says{}
	s := remote.Server{Transport: there}
	if _, err := s.Post(t.Context(), http.Header{"X-Own": {"1"}}, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if h := there.asked.Header; h.Get("Accept") != "application/json, text/event-stream" || h.Get("Content-Type") != "application/json" || h.Get("X-Own") != "1" {
		t.Errorf("POST with %v", h)
	}
	if _, err := s.Get(t.Context(), http.Header{}, "7"); err != nil {
		t.Fatal(err)
	}
	if h := there.asked.Header; h.Get("Accept") != "text/event-stream" || h.Get("Last-Event-Id") != "7" || there.asked.Body != http.NoBody {
		t.Errorf("GET with %v", h)
	}
}

func TestPause(t *testing.T) {
	if !remote.Pause(t.Context(), time.Nanosecond) {
		t.Error("did not wait")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if remote.Pause(ctx, time.Hour) {
		t.Error("waited for nothing")
	}
}
