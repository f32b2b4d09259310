// Package bridge lets a local client that speaks stdio use an MCP server over HTTP.
//
// Messages pass as the bytes they are, known or not, between the lines of In and Out
// and the POSTs, event streams and sessions of Streamable HTTP, or the older SSE
// transport. Where client and server are of different generations of MCP, package
// internal/era translates (docs/eras.md).
//
// It knows nothing of OAuth: it is given an http.RoundTripper, such as
// stepup.Transport, that brings requests over the fence, and only tells the client in
// words what came of it when that did not work.
//
//	err := bridge.Run(ctx, bridge.Config{URL: "https://host/mcp", Transport: transport, In: os.Stdin, Out: os.Stdout})
package bridge

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/stile-mcp/stile/internal/problem"
)

// Defaults of Config.
const (
	DefaultMaxMessage = 4 << 20
	DefaultMaxCalls   = 64
	DefaultGrace      = 5 * time.Second
	DefaultAdvice     = "Log in again, or ask whoever runs the server."
)

// Config says which server the client of In and Out uses, and how it is reached.
type Config struct {
	// URL is the server's MCP endpoint, http or https. Required.
	URL string
	// Transport sends the requests, logins and all. It must hand on the
	// httptrace.ClientTrace of a request's context, as http.Transport does and what
	// wraps one does by cloning requests: whether a request is on the wire decides
	// how it is cancelled. Redirects are not followed. Default: a clone of
	// http.DefaultTransport.
	Transport http.RoundTripper
	// Header is sent with every request to the server. Optional.
	Header http.Header
	// In is read until it ends, and Out gets nothing but messages, one on each line.
	// A Read of In may still be under way when Run has returned because its context
	// was done. Required.
	In  io.Reader
	Out io.Writer
	// MaxMessage is the longest message taken from either side, in bytes. Default
	// 4 MiB.
	MaxMessage int
	// MaxCalls is how many requests of the client are under way at once; more wait
	// for their turn. Subscriptions do not count. Default 64.
	MaxCalls int
	// Grace is how long requests that are under way may take when In has ended.
	// Default 5 s.
	Grace time.Duration
	// Advice is what a person whose login was not good enough can do, as a sentence
	// or two. Default DefaultAdvice.
	Advice string
	// Voice becomes the way to tell the person at the client something. Optional.
	Voice *Voice
	// Log receives what goes wrong. Default slog.Default().
	Log *slog.Logger
}

// check fills defaults in. Its error is a problem.List with every mistake.
func (c *Config) check() error {
	var list problem.List
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" {
		list.Add("url", c.URL, "an http or https URL of an MCP endpoint, without fragment")
	}
	if c.In == nil {
		list.Add("in", "", "where the client's messages are read")
	}
	if c.Out == nil {
		list.Add("out", "", "where messages for the client are written")
	}
	setDefault(&c.MaxMessage, DefaultMaxMessage)
	setDefault(&c.MaxCalls, DefaultMaxCalls)
	setDefault(&c.Grace, DefaultGrace)
	setDefault(&c.Advice, DefaultAdvice)
	if c.MaxMessage < 0 || c.MaxCalls < 0 || c.Grace < 0 {
		list.Add("", "", "limits that are not negative")
	}
	if c.Voice == nil {
		c.Voice = new(Voice)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return list.Err()
}

func setDefault[T comparable](value *T, to T) {
	var zero T
	if *value == zero {
		*value = to
	}
}

// Run carries messages until In ends or ctx is done. Requests that are under way when
// In ends have Config.Grace to finish; when ctx is done they are given up at once.
// Every request of the client is answered, if need be with an error that says what
// happened; only one that the client cancelled is not. The server's session is ended
// before Run returns, which takes 2 s at most.
//
// The error is a problem.List for a Config that is not good, or why Out could not be
// written; nil otherwise.
func Run(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		defer own.CloseIdleConnections()
		c.Transport = own
	}
	return newBridge(&c).run(ctx)
}
