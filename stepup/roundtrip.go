package stepup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/stile-mcp/stile/internal/fetch"
)

// RoundTrip sends a request with a token, gets one where it has none, steps up where
// the token has too few scopes, and sends the request again. What the server says in
// the end is returned as it is; Explanation tells why it was not followed. A login that
// fails is an *Error.
//
// Requests that bring their own Authorization, those that a redirect led to another
// origin, and those that would not go over https or to loopback, are sent once, as they
// are.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if why := notOurs(r); why != nil {
		return t.sendAsItIs(r, why)
	}
	body, err := t.replayable(r)
	if err != nil {
		return nil, err
	}
	a := t.account(r)
	op := operationOf(r, body.whole)
	refused := 0
	// Enough for a nonce, an expired token and the step-ups; every turn but a nonce's
	// is bounded by its own rule as well.
	for turn := 0; ; turn++ {
		login, err := a.ready(r.Context(), op)
		if err != nil {
			return nil, err
		}
		resp, err := t.send(r, body, login)
		if err != nil {
			return nil, err
		}
		d := readDemand(resp)
		if d.kind == satisfied {
			a.succeeded(op, login, resp.StatusCode)
			return resp, nil
		}
		d.operation = op
		if d.kind == wantsToken && login != nil {
			refused++
			d.anew = refused > 1
		}
		if why := a.mayAnswer(r.Context(), d, login, body, turn); why != nil {
			return explain(resp, a.failure(d, login, why)), nil
		}
		_ = resp.Body.Close() // unread: a refusal need not end
		if d.kind == wantsNonce {
			continue
		}
		if err := a.gain(r.Context(), d, login); err != nil {
			return nil, err
		}
	}
}

// mayAnswer reports why a refusal is not answered with another token; nil if it is.
func (a *account) mayAnswer(ctx context.Context, d demand, login *Login, body *replay, turn int) error {
	switch {
	case body.again == nil:
		return errors.New("the request is too long to be sent again: send a shorter one first, so that a login can be made")
	case turn > a.t.config.MaxStepUps+2:
		return errors.New("the server refused it too often in a row")
	case d.kind == wantsNonce:
		return nil
	case d.kind == wantsScopes && len(d.scopes) == 0:
		return errors.New("the server does not say which scope is missing: whoever runs it has to name it in the challenge")
	}
	return a.mayHelp(ctx, d, login)
}

// notOurs reports why a request gets no token from here.
func notOurs(r *http.Request) error {
	if r.Header.Get("Authorization") != "" {
		return errors.New("the server refuses the Authorization header that was given: give another one, or none to log in")
	}
	if r.URL.Scheme != "https" && !(r.URL.Scheme == "http" && fetch.IsLoopback(r.URL.Hostname())) {
		return errors.New("tokens are sent over https only: use an https URL")
	}
	for at := r; at.Response != nil && at.Response.Request != nil; at = at.Response.Request {
		from := at.Response.Request.URL
		if from.Scheme != r.URL.Scheme || from.Host != r.URL.Host {
			return fmt.Errorf("%s redirects to %s, which is not the server that tokens are for: use its own URL", from.Host, r.URL.Host)
		}
	}
	return nil
}

func (t *Transport) sendAsItIs(r *http.Request, why error) (*http.Response, error) {
	resp, err := t.config.Base.RoundTrip(r)
	if err == nil {
		resp.Request = r
	}
	if err == nil && readDemand(resp).kind != satisfied {
		explain(resp, &Error{Resource: resourceOf(r), Err: why})
	}
	return resp, err
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

// ready is the login to send with, refreshed if it is about to end; nil without one.
func (a *account) ready(ctx context.Context, operation string) (*Login, error) {
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
	if err := a.gain(ctx, demand{kind: wantsToken, operation: operation}, login); err != nil {
		if time.Now().Before(login.Expires) && ctx.Err() == nil {
			return login, nil // it is good still
		}
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.login, nil
}
