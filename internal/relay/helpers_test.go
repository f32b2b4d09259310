package relay_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stile-mcp/stile/internal/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is a ResponseWriter that writes down what reaches the client and when.
// It fails the test when two goroutines use it at a time.
type client struct {
	t      *testing.T
	header http.Header

	mu       sync.Mutex
	log      []string // "200", "<bytes>", "flush"
	fail     error    // of writes
	once     sync.Once
	deadline chan struct{}
	blocked  chan struct{} // closed when a write has blocked; nil: writes do not block
}

func newClient(t *testing.T) *client { return &client{t: t, header: http.Header{}} }

func (c *client) Header() http.Header { return c.header }

func (c *client) add(s string) {
	if !c.mu.TryLock() {
		c.t.Error("two goroutines use the client's ResponseWriter at once")
		return
	}
	defer c.mu.Unlock()
	c.log = append(c.log, s)
}

func (c *client) WriteHeader(status int) { c.add(http.StatusText(status)) }
func (c *client) Flush()                 { c.add("flush") }
func (c *client) Write(p []byte) (int, error) {
	if c.blocked != nil {
		close(c.blocked)
		<-c.deadline
		return 0, errors.New("deadline")
	}
	if c.fail != nil {
		return 0, c.fail
	}
	c.add(string(p))
	return len(p), nil
}

func (c *client) SetWriteDeadline(t time.Time) error {
	if c.deadline != nil && !t.IsZero() {
		c.once.Do(func() { close(c.deadline) })
	}
	return nil
}

// seen is the log as one string, from an entry on.
func (c *client) seen(from ...int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.log
	for _, n := range from {
		log = log[n:]
	}
	return strings.Join(log, "|")
}

func (c *client) entries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.log)
}

var errRefused = errors.New("refused by the hook")

// shout replaces every message by its upper-case form, refuses those that hold
// "bad", and drops those that hold "drop".
func shout(msg []byte, _ bool) ([]byte, error) {
	switch s := string(msg); {
	case strings.Contains(s, "bad"):
		return nil, errRefused
	case strings.Contains(s, "drop"):
		return nil, nil
	default:
		return []byte(strings.ToUpper(s)), nil
	}
}

// keep leaves every message alone.
func keep(msg []byte, _ bool) ([]byte, error) { return msg, nil }

// answer is a handler that answers with a media type and writes the chunks.
func answer(status int, mediaType string, chunks ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if mediaType != "" {
			w.Header().Set("Content-Type", mediaType)
		}
		w.WriteHeader(status)
		for _, c := range chunks {
			_, _ = w.Write([]byte(c))
			w.(http.Flusher).Flush()
		}
	}
}

// relayed sends the answer of h through a real server to a real client.
func relayed(t *testing.T, method string, o relay.Options, h http.Handler) (got *http.Response, body string, err error) {
	t.Helper()
	errs := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Gateway", "kept")
		err := relay.New(w, o).Serve(h, r)
		if err != nil {
			http.Error(w, "refused", http.StatusBadGateway)
		}
		errs <- err
	}))
	defer server.Close()
	defer server.Client().CloseIdleConnections()
	req, rerr := http.NewRequest(method, server.URL, nil)
	if rerr != nil {
		t.Fatal(rerr)
	}
	got, rerr = server.Client().Do(req)
	if rerr != nil {
		return nil, "", rerr
	}
	defer got.Body.Close()
	var b strings.Builder
	if _, rerr = io.Copy(&b, got.Body); rerr != nil {
		return got, b.String(), rerr
	}
	return got, b.String(), <-errs
}

func withCancel(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return ctx, cancel
}
