package stepup

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/internal/fetch"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// RoundTrip sends a request with a token, gets one where it has none, steps up where
// the token has too few scopes, and sends the request again. What the server says in
// the end is returned as it is. A login that fails is an *Error.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !(r.URL.Scheme == "http" && fetch.IsLoopback(r.URL.Hostname())) {
		return t.config.Base.RoundTrip(r)
	}
	body, err := t.replayable(r)
	if err != nil {
		return nil, err
	}
	a := t.account(r)
	op := operationOf(r, body.whole)
	// Enough for a nonce, an expired token and the step-ups; every turn but a nonce's
	// is bounded by its own rule as well.
	for turn := 0; ; turn++ {
		login, err := a.ready(r.Context())
		if err != nil {
			return nil, err
		}
		resp, err := t.send(r, body, login)
		if err != nil {
			return nil, err
		}
		d := readDemand(resp)
		if d.kind == satisfied {
			a.succeeded(op)
			return resp, nil
		}
		if body.again == nil || turn > t.config.MaxStepUps+2 {
			return resp, nil
		}
		if d.kind == wantsNonce {
			discard(resp)
			continue
		}
		d.operation = op
		if d.kind == wantsScopes && !a.mayStepUp(op, d, login) {
			return resp, nil
		}
		discard(resp)
		err = a.gain(r.Context(), d, login)
		if d.kind == wantsScopes {
			a.steppedUp(op, d, err)
		}
		if err != nil {
			return nil, err
		}
	}
}

// replay is a body that can be sent as often as it takes, or once.
type replay struct {
	whole []byte                        // all of it; nil where it is too long to keep
	again func() (io.ReadCloser, error) // how to have it anew; nil where that cannot be
	once  io.ReadCloser
}

// replayable reads a body so that it can be sent again. One that is longer than
// MaxBody stays as it is.
func (t *Transport) replayable(r *http.Request) (*replay, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return &replay{again: func() (io.ReadCloser, error) { return r.Body, nil }}, nil
	}
	if r.GetBody != nil && (r.ContentLength < 0 || r.ContentLength > t.config.MaxBody) {
		_ = r.Body.Close()
		return &replay{again: r.GetBody}, nil
	}
	begin, err := io.ReadAll(io.LimitReader(r.Body, t.config.MaxBody+1))
	if err != nil {
		_ = r.Body.Close()
		return nil, err
	}
	if int64(len(begin)) > t.config.MaxBody {
		return &replay{once: struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(begin), r.Body), r.Body}}, nil
	}
	_ = r.Body.Close()
	return &replay{whole: begin, again: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(begin)), nil
	}}, nil
}

// send sends one copy of the request.
func (t *Transport) send(r *http.Request, body *replay, login *Login) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.Body = body.once
	if body.again != nil {
		b, err := body.again()
		if err != nil {
			return nil, err
		}
		out.Body = b
	}
	if body.whole != nil {
		out.ContentLength = int64(len(body.whole))
	}
	if login != nil {
		if err := t.authorize(out, login); err != nil {
			return nil, err
		}
	}
	resp, err := t.config.Base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	t.nonces.learn(out.URL, resp.Header)
	resp.Request = r
	return resp, nil
}

// authorize puts the token in its header, with a proof where it is bound to a key.
func (t *Transport) authorize(r *http.Request, login *Login) error {
	if login.Key == nil {
		r.Header.Set("Authorization", "Bearer "+login.AccessToken)
		return nil
	}
	proof, err := login.Key.prove(r.Method, r.URL, t.nonces.of(r.URL), login.AccessToken)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "DPoP "+login.AccessToken)
	r.Header.Set("DPoP", proof)
	return nil
}

func discard(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
}

// kind is what an answer wants of its client.
type kind int

const (
	satisfied   kind = iota
	wantsToken       // 401: there is none, or it is good no more
	wantsScopes      // 403 insufficient_scope
	wantsNonce       // 401 use_dpop_nonce (RFC 9449 §9)
)

// demand is what a refusal asks for.
type demand struct {
	kind      kind
	scopes    []string
	metadata  string // resource_metadata
	dpop      bool   // the challenge is of the DPoP scheme
	operation string
}

// readDemand reads a refusal. A 403 that does not say insufficient_scope is an
// answer like any other.
func readDemand(resp *http.Response) demand {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return demand{}
	}
	parsed := readChallenges(resp.Header.Values("WWW-Authenticate"))
	if resp.StatusCode == http.StatusForbidden {
		for _, scheme := range []string{"Bearer", "DPoP"} {
			if p, ok := challenge.Find(parsed, scheme, "insufficient_scope"); ok {
				return demandOf(wantsScopes, p)
			}
		}
		return demand{}
	}
	if _, ok := challenge.Find(parsed, "DPoP", "use_dpop_nonce"); ok && resp.Header.Get("DPoP-Nonce") != "" {
		return demand{kind: wantsNonce}
	}
	for _, p := range parsed {
		if strings.EqualFold(p.Scheme, "Bearer") || strings.EqualFold(p.Scheme, "DPoP") {
			return demandOf(wantsToken, p)
		}
	}
	return demand{kind: wantsToken} // servers of 2025-03-26 send no challenge
}

func demandOf(k kind, p challenge.Parsed) demand {
	scope, _ := p.Get("scope")
	metadata, _ := p.Get("resource_metadata")
	return demand{kind: k, scopes: strings.Fields(scope), metadata: metadata, dpop: strings.EqualFold(p.Scheme, "DPoP")}
}

// readChallenges reads every line that can be read: one that cannot must not hide
// the others.
func readChallenges(values []string) []challenge.Parsed {
	if parsed, err := challenge.Parse(values); err == nil {
		return parsed
	}
	var all []challenge.Parsed
	for _, line := range values {
		if parsed, err := challenge.Parse([]string{line}); err == nil {
			all = append(all, parsed...)
		}
	}
	return all
}

// operationOf names what a request does, so that step-ups can be counted for each
// (REQ-53).
func operationOf(r *http.Request, body []byte) string {
	if body == nil {
		return r.Method
	}
	call, wrong := message.Read(body)
	if wrong != nil || call.Method == "" {
		return r.Method
	}
	return strings.TrimSpace(call.Method + " " + call.Name + call.URI)
}

// effort is what was tried for an operation since it last succeeded.
type effort struct {
	stepUps int
	last    time.Time
	from    *Login // what the step-up under way was begun with
	asked   []string
}

// maxEfforts bounds the operations that are remembered, and effortAge how long.
const (
	maxEfforts = 1024
	effortAge  = 10 * time.Minute
)

// mayStepUp reports whether asking again could help: the operation has turns left,
// and the challenge names something that was not granted on its behalf in vain
// before. A request whose refusal was of an older login, or that can wait for one
// under way, takes no turn.
func (a *account) mayStepUp(op string, d demand, used *Login) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(d.scopes) == 0 {
		return false
	}
	if used != a.login || a.pending != nil {
		return true
	}
	e := a.efforts[op]
	if e == nil || time.Since(e.last) > effortAge {
		if len(a.efforts) >= maxEfforts {
			clear(a.efforts)
		}
		e = &effort{}
		a.efforts[op] = e
	}
	if e.from != nil && e.from == used {
		return true // a request of the same kind has taken the turn
	}
	if e.stepUps >= a.t.config.MaxStepUps || includes(e.asked, d.scopes) {
		return false
	}
	e.stepUps++
	e.last, e.from = time.Now(), used
	return true
}

// steppedUp notes how a step-up ended. After a login the same challenge again is
// beyond what asking can bring.
func (a *account) steppedUp(op string, d demand, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.efforts[op]
	if e == nil {
		return
	}
	e.from = nil
	if err == nil {
		e.asked = union(e.asked, d.scopes)
	}
}

func (a *account) succeeded(op string) {
	a.mu.Lock()
	delete(a.efforts, op)
	a.mu.Unlock()
}

// includes reports whether all of some are in all.
func includes(all, some []string) bool { return len(scope.Set(some).Without(all)) == 0 }

// union is a and then what of b is not in it.
func union(a, b []string) []string { return scope.Set(a).Union(b) }

// ready is the login to send with, refreshed if it is about to end; nil without one.
func (a *account) ready(ctx context.Context) (*Login, error) {
	a.mu.Lock()
	if err := a.load(ctx); err != nil {
		a.mu.Unlock()
		return nil, err
	}
	login := a.login
	a.mu.Unlock()
	if login == nil || !login.ends() || login.RefreshToken == "" && a.t.config.Grant == nil {
		return login, nil // the server's 401 says what it wants
	}
	if err := a.gain(ctx, demand{kind: wantsToken}, login); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.login, nil
}

// attempt is a login that several requests wait for.
type attempt struct {
	done chan struct{}
	err  error
}
