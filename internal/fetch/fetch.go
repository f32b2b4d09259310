// Package fetch is the only place that asks the network for a document someone
// else named: an issuer's metadata and keys, a client's own metadata.
//
// It bounds what may come back (size, time, media type), follows no redirect,
// speaks https only (http to loopback where allowed), and looks at the address
// after the name was resolved, so that a name cannot lead inside (attacks.md:
// SSRF via metadata documents).
package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Defaults of Options.
const (
	DefaultMaxBytes = 1 << 20
	DefaultTimeout  = 5 * time.Second
)

// Options says what a Client may do. The zero value is the strict one, for
// documents that strangers name.
type Options struct {
	// MaxBytes is the largest body, in bytes. Default 1 MiB.
	MaxBytes int64
	// Timeout bounds one request from dialling to the last byte. Default 5 s.
	Timeout time.Duration
	// AllowPrivate lets the client reach private and loopback addresses, and the
	// proxy that the environment names (HTTPS_PROXY). It is for URLs that the
	// operator configured: a company's issuer is often on a private network.
	// Link-local addresses, where clouds keep their credentials, stay refused.
	AllowPrivate bool
	// AllowLoopbackHTTP lets http URLs through whose host is loopback:
	// localhost, 127.0.0.0/8 or [::1].
	AllowLoopbackHTTP bool
	// RootCAs are who may vouch for a server. Default: the system's.
	RootCAs *x509.CertPool
	// Proxy says which proxy a request goes through, as http.Transport.Proxy does.
	// Its own address is not checked, and what it connects to is its business.
	// Default: none, or with AllowPrivate that of the environment.
	Proxy func(*http.Request) (*url.URL, error)
	// Transport replaces the network, and with it the check of addresses. For
	// tests, and for callers that have their own egress rules.
	Transport http.RoundTripper
}

// Client fetches documents within its Options. It is safe for concurrent use.
type Client struct {
	http         *http.Client
	maxBytes     int64
	timeout      time.Duration
	loopbackHTTP bool
}

// Response is an answer, read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// New returns a Client.
func New(o Options) *Client {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	transport := o.Transport
	if transport == nil {
		transport = newTransport(o)
	}
	return &Client{
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		maxBytes:     o.MaxBytes,
		timeout:      o.Timeout,
		loopbackHTTP: o.AllowLoopbackHTTP,
	}
}

// CloseIdle closes the connections that are kept for the next request.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// Get fetches rawURL, asking for the media type accept. Any status but a
// redirect is returned as a value; every error is an *Error, or the context's.
func (c *Client) Get(ctx context.Context, rawURL, accept string) (Response, error) {
	return c.do(ctx, http.MethodGet, rawURL, http.Header{"Accept": {accept}}, "")
}

// GetWith fetches rawURL as Get does, with these headers on the request.
func (c *Client) GetWith(ctx context.Context, rawURL string, header http.Header) (Response, error) {
	return c.do(ctx, http.MethodGet, rawURL, header, "")
}

// GetJSON fetches rawURL and wants status 200 and a JSON media type
// (application/json or one ending in +json, RFC 6839 §3.1). That the body is
// JSON is for the caller to find out. Where an answer came, the Response is
// returned beside the error.
func (c *Client) GetJSON(ctx context.Context, rawURL string) (Response, error) {
	r, err := c.Get(ctx, rawURL, "application/json")
	if err != nil {
		return r, err
	}
	if r.Status != http.StatusOK {
		return r, &Error{Host: hostOf(rawURL), Want: "status 200", Got: "status " + strconv.Itoa(r.Status), Status: r.Status}
	}
	if !IsJSON(r.Header.Get("Content-Type")) {
		return r, &Error{Host: hostOf(rawURL), Want: "a JSON media type", Got: quote(r.Header.Get("Content-Type")), Status: r.Status}
	}
	return r, nil
}

// PostForm sends a form to a URL of the operator's own under the same limits
// (RFC 7662 introspection). Header is added to the request and may be nil.
func (c *Client) PostForm(ctx context.Context, rawURL string, form url.Values, header http.Header) (Response, error) {
	return c.Post(ctx, rawURL, "application/x-www-form-urlencoded", []byte(form.Encode()), header)
}

// Post sends a body of a media type under the same limits. Header is added to the
// request and may be nil.
func (c *Client) Post(ctx context.Context, rawURL, mediaType string, body []byte, header http.Header) (Response, error) {
	h := header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Content-Type", mediaType)
	return c.do(ctx, http.MethodPost, rawURL, h, string(body))
}

// IsJSON reports whether a Content-Type names JSON.
func IsJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || (strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")))
}

func (c *Client) do(ctx context.Context, method, rawURL string, header http.Header, body string) (Response, error) {
	if _, err := CheckURL(rawURL, c.loopbackHTTP); err != nil {
		return Response{}, err
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var sent io.Reader
	if method == http.MethodPost {
		sent = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(limited, method, rawURL, sent)
	if err != nil {
		return Response{}, &Error{Host: hostOf(rawURL), Want: "a URL that can be requested", Err: withoutURL(err)}
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "stile")
	res, err := c.http.Do(req)
	if err != nil {
		return Response{}, c.failed(ctx, limited, rawURL, err)
	}
	defer res.Body.Close()
	r := Response{Status: res.StatusCode, Header: res.Header}
	if err := c.admit(rawURL, res); err != nil {
		return r, err
	}
	r.Body, err = io.ReadAll(io.LimitReader(res.Body, c.maxBytes+1))
	switch {
	case err != nil:
		return Response{}, c.failed(ctx, limited, rawURL, err)
	case int64(len(r.Body)) > c.maxBytes:
		return Response{Status: r.Status, Header: r.Header}, c.tooLong(rawURL, r.Status)
	}
	return r, nil
}

// admit looks at an answer before its body is read.
func (c *Client) admit(rawURL string, res *http.Response) error {
	host := hostOf(rawURL)
	switch coding := res.Header.Get("Content-Encoding"); {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return &Error{Host: host, Want: "the document itself, since redirects are not followed",
			Got: "status " + strconv.Itoa(res.StatusCode), Status: res.StatusCode}
	case coding != "" && !strings.EqualFold(coding, "identity"):
		return &Error{Host: host, Want: "a body without content coding", Got: quote(coding), Status: res.StatusCode}
	case res.ContentLength > c.maxBytes:
		return c.tooLong(rawURL, res.StatusCode)
	}
	return nil
}

func (c *Client) tooLong(rawURL string, status int) error {
	return &Error{Host: hostOf(rawURL), Want: fmt.Sprintf("a body of at most %d bytes", c.maxBytes), Got: "a longer one", Status: status}
}

// failed tells the caller's own cancellation from our time limit and from the
// network's troubles.
func (c *Client) failed(ctx, limited context.Context, rawURL string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if limited.Err() != nil {
		return &Error{Host: hostOf(rawURL), Want: "an answer within " + c.timeout.String(), Err: context.DeadlineExceeded}
	}
	return &Error{Host: hostOf(rawURL), Want: "an answer", Err: withoutURL(err)}
}

// withoutURL takes off the layer of net/http that repeats the URL, whose query
// may hold what no log should.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
