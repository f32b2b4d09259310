package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/era"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/session"
)

// Protocol says which generation of the protocol a server speaks.
type Protocol string

const (
	// ProtocolAuto finds out.
	ProtocolAuto Protocol = "auto"
	// Protocol2025 is the revisions up to 2025-11-25, with initialize and sessions.
	Protocol2025 Protocol = "2025"
	// Protocol2026 is 2026-07-28.
	Protocol2026 Protocol = "2026"
)

// EraConfig says how a server is reached by clients of the other generation.
type EraConfig struct {
	// Name is what the log calls the server.
	Name string
	// Upstream is the server: an HTTP, a Command or any other handler that speaks
	// Streamable HTTP. Required.
	Upstream http.Handler
	// Protocol is what the server speaks. Default ProtocolAuto.
	Protocol Protocol
	// AskTime is how long a call of a server of the 2025 revisions waits for what
	// its client, of 2026-07-28, was asked for. Default 10 min.
	AskTime time.Duration
	// MaxAsking is how many calls of one caller may wait so at once. Default 16.
	MaxAsking int
	// IdleTimeout is how long a session, or the sessions with the server that are
	// held for a caller, are kept when nothing is asked of them. Default 30 min;
	// negative: for ever.
	IdleTimeout time.Duration
	// MaxPerCaller is how many sessions of one caller there may be. Default 16.
	MaxPerCaller int
	// MaxSessions is how many there may be of all callers. Default 10,000.
	MaxSessions int
	// MaxMessage is the longest message of the server, in bytes. Default 16 MiB.
	MaxMessage int
	// Log receives what goes wrong. Default slog.Default().
	Log *slog.Logger
}

// DefaultEraSessions is the default of EraConfig.MaxSessions.
const DefaultEraSessions = 10_000

// Era lets clients of either generation of MCP use a server, whichever that speaks.
// It is an http.Handler, safe for concurrent use. A request of a generation that the
// server speaks goes to it as it is; any other is translated (docs/eras.md).
//
// What a server speaks is found out by the first request that needs to know:
// server/discover for a client of 2026-07-28, and the client's own initialize
// otherwise. It is remembered until the server is seen to fail.
//
// Sessions with a server of the 2025 revisions belong to the caller whose request
// began them (session.OwnerFrom) and are used for no other.
type Era struct {
	config  EraConfig
	watched http.Handler // the server
	command bool         // it is a program
	front   *Command     // who translates
	log     *slog.Logger
	probes  singleflight.Group

	mu       sync.Mutex
	modern   answer3
	legacy   answer3
	asked    time.Time
	doubtful bool
}

// answer3 is yes, no, or not known.
type answer3 uint8

const (
	unknown answer3 = iota
	yes
	no
)

func yesNo(b bool) answer3 {
	if b {
		return yes
	}
	return no
}

const (
	// probeTimeout bounds a probe; that of a command, which is started for it, is
	// bounded by startTimeout.
	probeTimeout = 10 * time.Second
	startTimeout = 5 * time.Minute
	// doubtPause is how often a server that fails is probed again.
	doubtPause = 10 * time.Second
	// maxHeld is the longest answer to initialize that is looked at, in bytes.
	maxHeld = 1 << 20
)

// forgetful is a Command.
type forgetful interface{ ForgetEra() }

// NewEra returns the handler for a server. Nothing is sent before the first request.
// Its error is a problem.List with every mistake in the configuration.
func NewEra(c EraConfig) (*Era, error) {
	var list problem.List
	setDefault(&c.Protocol, ProtocolAuto)
	setDefault(&c.MaxSessions, DefaultEraSessions)
	if c.Upstream == nil {
		list.Add("upstream", "", "the handler that reaches the server")
	}
	e := &Era{config: c}
	switch c.Protocol {
	case ProtocolAuto:
	case Protocol2025:
		e.modern, e.legacy = no, yes
	case Protocol2026:
		e.modern, e.legacy = yes, no
	default:
		list.Add("protocol", string(c.Protocol), "auto, 2025 or 2026")
	}
	limits := CommandConfig{Name: c.Name, Command: []string{"none"}, IdleTimeout: c.IdleTimeout, MaxPerCaller: c.MaxPerCaller,
		MaxChildren: c.MaxSessions, MaxMessage: c.MaxMessage, StartTimeout: startTimeout, Log: c.Log}
	var more problem.List
	if err := limits.check(); errors.As(err, &more) {
		list = append(list, more...)
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	e.front = newCommand(limits)
	e.front.peer = e.peer
	e.log = e.front.log
	e.watched = watchdog{e}
	_, e.command = c.Upstream.(forgetful)
	return e, nil
}

// ServeHTTP takes a request to the server, or to who translates.
func (e *Era) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version := r.Header.Get(headerVersion)
	cross := false
	if version >= firstModern && !message.IsLegacy(version) {
		cross = e.speaks(r.Context()).modern == no
	} else {
		var answered bool
		if cross, answered = e.crossLegacy(w, r); answered {
			return
		}
	}
	if cross {
		r = r.WithContext(era.WithHeader(r.Context(), r.Header))
		e.front.ServeHTTP(w, r)
		return
	}
	e.watched.ServeHTTP(w, r)
}

// crossLegacy reports whether a request of the 2025 revisions has to be translated.
// One that begins a session may find out, and be answered thereby.
func (e *Era) crossLegacy(w http.ResponseWriter, r *http.Request) (cross, answered bool) {
	known := e.known()
	id := r.Header.Get(headerSession)
	switch {
	case known.legacy == no:
		return true, false
	case id != "" && e.front.knows(r.Context(), id):
		return true, false
	case known.legacy == yes && (id != "" || !known.doubtful):
		return false, false
	case id != "" || r.Method != http.MethodPost:
		// Only a session that Stile has forgotten is asked for at such a server.
		s := e.speaks(r.Context())
		return s.modern == yes && s.legacy != yes, false
	}
	begins, err := beginsSession(r)
	if err != nil || !begins {
		return false, false // it is for the server to refuse
	}
	return e.tryInitialize(w, r)
}

// beginsSession reports whether a POST is an initialize. Its body can be read again
// afterwards.
func beginsSession(r *http.Request) (bool, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false, err
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
	m, err := envelope.Read(body)
	return err == nil && m.Method == "initialize", nil
}

// tryInitialize lets the server answer an initialize. When it refuses, and shows
// that it speaks 2026-07-28 instead, the request has to be translated.
func (e *Era) tryInitialize(w http.ResponseWriter, r *http.Request) (cross, answered bool) {
	h := &holder{to: w, header: http.Header{}, status: http.StatusOK}
	e.watched.ServeHTTP(h, r)
	if h.began() {
		e.learn(func() { e.legacy = yes })
		h.release()
		return false, true
	}
	if h.err == nil && h.status < http.StatusInternalServerError && h.status != http.StatusUnauthorized && h.status != http.StatusForbidden {
		if s := e.speaks(r.Context()); s.modern == yes {
			e.learn(func() { e.legacy = no })
			e.log.Info("the MCP server speaks 2026-07-28 only; older clients are translated")
			r.Body, _ = r.GetBody()
			return true, false
		}
	}
	h.release()
	return false, true
}

func (e *Era) learn(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// eraState is what is known of the server.
type eraState struct {
	modern, legacy answer3
	doubtful       bool
}

func (e *Era) known() eraState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return eraState{e.modern, e.legacy, e.doubtful && time.Since(e.asked) > doubtPause}
}

// doubt says that the server may not be the one it was.
func (e *Era) doubt() {
	if e.config.Protocol == ProtocolAuto {
		e.learn(func() { e.doubtful = true })
	}
}

// speaks finds out what the server speaks, if need be. While that cannot be told the
// answer is unknown, and requests go to the server as they are.
func (e *Era) speaks(ctx context.Context) eraState {
	known := e.known()
	if known.modern != unknown && !known.doubtful {
		return known
	}
	probe := e.probes.DoChan("", func() (any, error) {
		// It does not end with the request that began it: others wait for it.
		limit := probeTimeout
		if e.command {
			e.config.Upstream.(forgetful).ForgetEra()
			limit = startTimeout
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		s, err := era.Probe(ctx, inside{e.config.Upstream}, e.command)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			s, err = era.Speaks{Legacy: true}, nil // it was there, and had nothing to say
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.asked = time.Now()
		if err != nil {
			e.log.Warn("not known which revisions the MCP server speaks", "error", err)
			return nil, nil
		}
		switch {
		case s.Legacy || !s.Modern:
			e.legacy = yes
		case e.legacy != yes || e.doubtful:
			// An initialize that the same server has answered says more than its list.
			e.legacy = unknown
		}
		e.modern, e.doubtful = yesNo(s.Modern), false
		e.log.Debug("the MCP server was asked for its revisions", "2026-07-28", s.Modern, "older", s.Legacy)
		return nil, nil
	})
	select {
	case <-probe:
	case <-ctx.Done():
	}
	return e.known()
}

// knows reports whether a session is one of the Command's, and its owner's.
func (c *Command) knows(ctx context.Context, id string) bool {
	owner, _ := session.OwnerFrom(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[id]
	return s != nil && s.owner == owner
}

// Ready reports what the server's own Ready does, where it has one.
func (e *Era) Ready(ctx context.Context) error {
	if up, ok := e.config.Upstream.(interface{ Ready(context.Context) error }); ok {
		return up.Ready(ctx)
	}
	return nil
}

// Close ends every session that is translated. The server's handler is its owner's
// to close, afterwards.
func (e *Era) Close() { e.front.Close() }
