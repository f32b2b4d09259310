package stiletest

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Note is one note of Notes.
type Note struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

// NotesOptions says what a Notes server is like. The zero value is good: three
// notes, answers as event streams.
type NotesOptions struct {
	// Notes it starts with. Nil: three notes with the ids "1", "2" and "3".
	Notes []Note
	// JSON answers with application/json instead of text/event-stream.
	JSON bool
	// OnSlow is called by the tool "slow" after each of its progress
	// notifications, with the number of the step from 1. It may block until ctx
	// is done; its error becomes that of the tool.
	OnSlow func(ctx context.Context, step int) error
	// Logger of the MCP server. Default: nothing is logged.
	Logger *slog.Logger
}

// Notes is a small real MCP server made with the go-sdk: an http.Handler that
// serves both eras of the protocol on one URL, the 2025 revisions with sessions
// and 2026-07-28 without. It keeps notes in memory and records what reached it.
//
// Tools: list_notes, get_note, create_note, delete_note (id, permanent),
// export_notes, drop_everything, ping, slow (steps). Resources: note://index and
// the template note://{id}. Prompt: summarise (id).
type Notes struct {
	Recording
	// URL is where NewNotesServer has it listen; empty elsewhere.
	URL string

	options  NotesOptions
	server   *mcp.Server
	sessions http.Handler // 2025 revisions
	single   http.Handler // 2026-07-28

	mu     sync.Mutex // guards what follows
	notes  map[string]Note
	last   int            // highest id given out
	calls  map[string]int // by tool
	served map[string]int // by method
}

// NewNotes makes a Notes server. Close ends its sessions.
func NewNotes(options NotesOptions) *Notes {
	if options.Notes == nil {
		options.Notes = []Note{
			{"1", "Shopping", "bread, cheese, apples"},
			{"2", "Walk", "over the stile and along the river"},
			{"3", "Garden", "plant the hedge in November"},
		}
	}
	n := &Notes{options: options, notes: map[string]Note{}, calls: map[string]int{}, served: map[string]int{}}
	for _, note := range options.Notes {
		n.notes[note.ID] = note
		if id, err := strconv.Atoi(note.ID); err == nil {
			n.last = max(n.last, id)
		}
	}
	n.server = n.newServer()
	get := func(*http.Request) *mcp.Server { return n.server }
	handler := func(stateless bool) *mcp.StreamableHTTPHandler {
		return mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{
			Stateless: stateless, JSONResponse: options.JSON, Logger: options.Logger,
			// Behind a gateway Host is often that of the gateway.
			DisableLocalhostProtection: true,
			// A client that hangs up ends the tool, as a gateway must see to.
			PropagateRequestCancellation: true,
		})
	}
	n.sessions, n.single = handler(false), handler(true)
	return n
}

// NewNotesServer makes a Notes server that listens on 127.0.0.1 until t ends.
func NewNotesServer(t testing.TB, options NotesOptions) *Notes {
	t.Helper()
	n := NewNotes(options)
	server := httptest.NewServer(n)
	t.Cleanup(func() {
		n.Close()
		server.CloseClientConnections()
		server.Close()
	})
	n.URL = server.URL + "/mcp"
	return n
}

// Close ends all sessions of the 2025 revisions. The server goes on to serve.
func (n *Notes) Close() error {
	for _, s := range slices.Collect(n.server.Sessions()) {
		s.Close()
	}
	return nil
}

// firstStateless is the first revision without sessions.
const firstStateless = "2026-07-28"

// ServeHTTP records the request and serves it in the era it belongs to. The
// go-sdk wants a handler with sessions for the 2025 revisions and one without
// for 2026-07-28, and refuses either on the other.
func (n *Notes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := n.record(r)
	if err != nil {
		http.Error(w, "the body did not arrive", http.StatusBadRequest)
		return
	}
	if r.Header.Get("MCP-Protocol-Version") >= firstStateless || metaVersion(body) != "" {
		n.single.ServeHTTP(w, r)
		return
	}
	n.sessions.ServeHTTP(w, r)
}

// metaVersion is the revision a message of 2026-07-28 names in params._meta.
func metaVersion(body []byte) string {
	var m struct {
		Params struct {
			Meta map[string]json.RawMessage `json:"_meta"`
		} `json:"params"`
	}
	if json.Unmarshal(body, &m) != nil {
		return ""
	}
	var version string
	_ = json.Unmarshal(m.Params.Meta["io.modelcontextprotocol/protocolVersion"], &version)
	return version
}

// Calls is how often a tool was called.
func (n *Notes) Calls(tool string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[tool]
}

// Served is how often a method was, such as "resources/read".
func (n *Notes) Served(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.served[method]
}

// All returns the notes, by id.
func (n *Notes) All() []Note {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Values(n.notes), func(a, b Note) int { return compareID(a.ID, b.ID) })
}

// compareID orders ids by number, and those that are none after them by name.
func compareID(a, b string) int {
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	switch {
	case errX == nil && errY == nil:
		return cmp.Compare(x, y)
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return cmp.Compare(a, b)
}

// note finds one note.
func (n *Notes) note(id string) (Note, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	note, ok := n.notes[id]
	return note, ok
}

// count is the middleware that counts what was served.
func (n *Notes) count(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		n.mu.Lock()
		n.served[method]++
		if call, ok := req.(*mcp.CallToolRequest); ok {
			n.calls[call.Params.Name]++
		}
		n.mu.Unlock()
		return next(ctx, method, req)
	}
}
