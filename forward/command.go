package forward

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/stdio"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/session"
)

// Command is the Streamable HTTP server in front of a program that speaks MCP on
// its standard input and output, of the 2025 revisions and of 2026-07-28. It is an
// http.Handler, safe for concurrent use.
//
// It takes requests that were read strictly and authorised before: one JSON-RPC
// message a POST, its headers held against it. Whom a request belongs to is what
// session.OwnerFrom says of its context; a session answers its owner only. The
// bytes of a message pass as they are, but for line ends outside strings, which
// become spaces, and, where several clients share a child, for ids and progress
// tokens, which are exchanged for others and back.
//
// A child that ends is not hidden: calls under way are answered with a JSON-RPC
// error, and its sessions with 404, so that clients start anew.
type Command struct {
	config   CommandConfig
	start    func(k *child) (connection, error)
	peer     func(k *child) (connection, error) // in place of start: children in this process, which need no greeting
	present  func(context.Context) error        // why nothing can be started
	keeper   stdio.Keeper
	log      *slog.Logger
	backoff  backoff
	patience patience

	starting sync.Mutex // held while a shared child is looked for or started

	mu            sync.Mutex
	closed        bool
	sessions      map[string]*clientSession
	ownedSessions map[session.Owner]map[*clientSession]struct{}
	pools         map[poolKey]*child
	children      map[*child]struct{}
	owned         map[session.Owner]int // children, by caller
	legacy        bool                  // the program is known not to speak 2026-07-28
	running       sync.WaitGroup
}

// poolKey finds a child that several requests share.
type poolKey struct {
	owner  session.Owner
	modern bool
}

// NewCommand returns the server for a program. Nothing is started before the first
// request. Its error is a problem.List with every mistake in the configuration.
func NewCommand(c CommandConfig) (*Command, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	d := newCommand(c)
	process := stdio.Config{Name: c.Name, Command: c.Command, Env: c.Env, Dir: c.Dir, MaxLine: d.config.MaxMessage,
		Grace: d.config.StopGrace, Keeper: &d.keeper, Log: d.config.Log}
	d.start = func(k *child) (connection, error) {
		config := process
		config.Receive, config.TooLong = k.receive, k.hearTooLong
		p, err := stdio.Start(config)
		if err != nil {
			return nil, err
		}
		d.log.Info("child started", "pid", p.PID())
		return p, nil
	}
	d.present = func(context.Context) error {
		_, err := process.Find()
		return err
	}
	return d, nil
}

// newCommand makes what start and present have to be set of.
func newCommand(c CommandConfig) *Command {
	c.setDefaults()
	return &Command{
		config:        c,
		log:           c.Log.With("server", c.Name),
		sessions:      map[string]*clientSession{},
		ownedSessions: map[session.Owner]map[*clientSession]struct{}{},
		pools:         map[poolKey]*child{},
		children:      map[*child]struct{}{},
		owned:         map[session.Owner]int{},
	}
}

// The headers of the transport.
const (
	headerSession = "Mcp-Session-Id"
	headerVersion = "Mcp-Protocol-Version"
)

// request is one HTTP request on its way to a child.
type request struct {
	w         http.ResponseWriter
	r         *http.Request
	owner     session.Owner
	version   string // of the header
	modern    bool
	stateless bool
	session   string
	message   *envelope.Message // of a POST; its bytes are good until the answer was given
	buffer    *[]byte           // what its bytes are in
	id        jsontext.Value    // its id, once the child has it
}

// ServeHTTP answers one request of the transport. When the request's context ends
// before anything was sent it calls the method Fail(error) of the ResponseWriter
// where there is one.
func (c *Command) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{w: w, r: r, version: r.Header.Get(headerVersion), session: r.Header.Get(headerSession),
		stateless: c.config.Stateless}
	q.owner, _ = session.OwnerFrom(r.Context())
	q.modern = q.version >= firstModern && !message.IsLegacy(q.version)
	var err error
	switch {
	case r.Method == http.MethodPost:
		err = c.post(q)
	case q.modern || c.config.Stateless || r.Method != http.MethodGet && r.Method != http.MethodDelete:
		err = errMethod // REQ-23
	case r.Method == http.MethodGet:
		err = c.get(q)
	default:
		err = c.delete(q)
	}
	if err != nil {
		q.refuse(err)
	}
	q.release()
}

// firstModern is the first revision without sessions.
const firstModern = "2026-07-28"

// refusal is an answer that says no, before anything was sent.
type refusal struct {
	status int
	code   int // 0: the status
	text   string
	retry  time.Duration
	cause  error // for the log
}

func (e *refusal) Error() string {
	if e.cause != nil {
		return e.text + ": " + e.cause.Error()
	}
	return e.text
}

func (e *refusal) Unwrap() error { return e.cause }

const codeInvalidRequest = -32600

var (
	errMethod    = &refusal{status: http.StatusMethodNotAllowed, text: "not a method of this endpoint"}
	errNoSession = &refusal{status: http.StatusNotFound, text: "no such session: start a new one with initialize"}
	errSessionID = &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "Mcp-Session-Id is missing: begin with initialize"}
	errClosed    = &refusal{status: http.StatusServiceUnavailable, text: "the gateway is stopping", retry: time.Second}
	// errLegacy has a body that no client takes for an error of 2026-07-28, so that
	// one that speaks both goes on with initialize (2026-07-28 basic/versioning).
	errLegacy = &refusal{status: http.StatusBadRequest, code: codeInvalidRequest,
		text: "this MCP server does not speak revision 2026-07-28: begin with initialize, as in 2025-11-25 and before"}
)

// refuse writes the answer that says no.
func (q *request) refuse(err error) {
	var no *refusal
	if f, ok := q.w.(interface{ Fail(error) }); ok && errors.Is(err, context.Canceled) {
		f.Fail(err) // whoever ended the request knows what to say
		return
	}
	var theirs *answered
	if errors.As(err, &theirs) {
		theirs.write(q.w)
		return
	}
	if !errors.As(err, &no) {
		no = &refusal{status: http.StatusInternalServerError, text: "internal error", cause: err}
	}
	f := challenge.Refusal{Status: no.status, Code: no.code, Message: no.text, RetryAfter: no.retry}
	if no.status == http.StatusMethodNotAllowed {
		f.Allow = "GET, POST, DELETE"
		if q.modern || q.stateless {
			f.Allow = "POST"
		}
	}
	f.ID = q.id
	if q.message != nil {
		f.ID = q.message.At(q.message.ID)
	}
	f.Write(q.w)
}

// bodies are buffers for messages on their way to a child.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// keepBody is the largest buffer that is used again, in bytes.
const keepBody = 64 << 10

// read reads the message of a POST into one line, ready for a child.
func (q *request) read() error {
	q.buffer = bodies.Get().(*[]byte)
	line := (*q.buffer)[:0]
	// Room for the line end; the gateway has bounded the length.
	if need := int(max(q.r.ContentLength, 0)) + 1; cap(line) < need {
		line = make([]byte, 0, need)
	}
	for {
		n, err := q.r.Body.Read(line[len(line):cap(line)])
		line = line[:len(line)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "the body was cut off", cause: err}
		}
		if len(line) == cap(line) {
			line = append(line, 0)[:len(line)]
		}
	}
	*q.buffer = line
	// Inside a string a line end cannot stand as it is, so these are white space.
	blank(line, '\n')
	blank(line, '\r')
	m := messages.Get().(*envelope.Message)
	if err := m.Read(line); err != nil {
		return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "the body is not one JSON-RPC message", cause: err}
	}
	q.message = m
	return nil
}

// blank puts spaces in the place of a byte.
func blank(line []byte, b byte) {
	for {
		i := bytes.IndexByte(line, b)
		if i < 0 {
			return
		}
		line[i] = ' '
		line = line[i+1:]
	}
}

// sent lets go of a message that the child has: the answer may take long, and needs
// its id alone.
func (q *request) sent(x *call) {
	q.release()
	q.id = x.id
}

// release gives the message and its buffer back.
func (q *request) release() {
	if q.buffer != nil && cap(*q.buffer) <= keepBody {
		bodies.Put(q.buffer)
	}
	if q.message != nil {
		q.message.Raw = nil
		messages.Put(q.message)
	}
	q.buffer, q.message = nil, nil
}

// newID is a name that cannot be guessed.
func newID() string { return rand.Text() }

// Ready reports whether the program can be run: that it is there, that it did not
// fail to start again and again just now, and, with IsolateShared, that its child
// runs and has answered; the first call starts it. The error says what is wrong.
func (c *Command) Ready(ctx context.Context) error {
	if err := c.present(ctx); err != nil {
		return err
	}
	if c.config.Isolation != IsolateShared {
		return c.backoff.failing(time.Now())
	}
	c.mu.Lock()
	modern := c.pools[poolKey{modern: true}] != nil
	c.mu.Unlock()
	if _, err := c.pooled(ctx, session.Owner{}, modern); err != nil {
		return fmt.Errorf("child process: %w", err)
	}
	return nil
}

// Close ends every session and every child, and returns when they are gone, which
// takes at most twice StopGrace. Requests are answered with 503 from then on.
func (c *Command) Close() {
	c.mu.Lock()
	c.closed = true
	all := slices.Collect(maps.Values(c.sessions))
	children := slices.Collect(maps.Keys(c.children))
	c.mu.Unlock()
	for _, s := range all {
		s.end(errClosed.text)
	}
	for _, k := range children {
		k.stop()
	}
	c.running.Wait()
	c.keeper.Close()
}

// errorLine is a JSON-RPC error response.
func errorLine(id jsontext.Value, code int, text string) []byte {
	return challenge.Refusal{ID: id, Code: code, Message: text}.Body()
}
