// Package doctor looks at an MCP server as its clients would, and says what is
// wrong, which clients it hurts and how to mend it.
//
// It reaches the server without a token, reads the challenge and the metadata in
// every place clients look, then the authorization server's, and holds them against
// the specification (REQ-nn) and against what real clients trip over (DES-nn). With
// a token, its own or of a login, it goes on: audience, sessions, header checks, and,
// on an operation that the caller names, the step-up.
//
// Nothing that could change the server's state is sent unless Options.Call names
// it: without one, the messages are initialize, server/discover, ping, the list of
// tools, and requests that must be refused or name what does not exist. A login
// registers a client at the authorization server, as every client does.
package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/fetch"
)

// DefaultTimeout bounds one request, from dialling to the last byte that is read.
const DefaultTimeout = 10 * time.Second

// Options says what to examine.
type Options struct {
	// URL is the endpoint, https, or http to loopback.
	URL string
	// Token is an access token to go on with, such as of a first login. Optional.
	// It is sent to URL only and stands in no finding.
	Token string
	// Login logs in, to go on with the token it brings. Optional; not with Token.
	Login *Login
	// Call is an operation that the token has no right to yet. It is sent, twice,
	// with the token, and with Login once more after the step-up; where the server
	// does not refuse it, it runs. Optional.
	Call *Call
	// Timeout bounds each request. Default DefaultTimeout.
	Timeout time.Duration
	// RootCAs are who may vouch for the servers. Default: the system's.
	RootCAs *x509.CertPool

	// dial replaces the network, for tests of what is done on other machines only.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Call names an operation, as the Mcp-Method and Mcp-Name headers do.
type Call struct {
	Method string          // such as tools/call
	Target string          // the tool, prompt or URI
	Args   json.RawMessage // a JSON object; nil for none
}

// Examine looks at a server, for a few minutes at most beside the time that people take
// to log in. Its error says that there was nothing to look at (a URL that
// cannot be asked, a host that does not answer), or that ctx ended; all else is in the
// report. It is safe for concurrent use.
func Examine(ctx context.Context, o Options) (Report, error) {
	endpoint, err := fetch.CheckURL(o.URL, true)
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", o.URL, err)
	}
	if o.Login != nil && (o.Login.Person == nil || o.Token != "") {
		return Report{}, errors.New("doctor: a login needs a Person, and no Token beside it")
	}
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	v := newVisit(ctx, endpoint, o)
	defer v.close()
	if err := v.reach(); err != nil {
		return Report{}, err
	}
	if v.challenged() {
		v.readMetadata()
		v.readIssuers()
	}
	v.asBrowser()
	v.asStranger()
	v.goOn()
	if err := ctx.Err(); err != nil {
		return Report{}, err // what was found since means nothing
	}
	v.judgeClients()
	return v.report, nil
}

// goOn goes on with a token, of a login or given.
func (v *visit) goOn() {
	v.logIn()
	if v.options.Token != "" {
		v.asHolder()
	} else if v.options.Login == nil && v.challenged() {
		v.notTried("What a login brings, and the step-up: --login logs in in a browser, --token-file takes a token.")
	}
	v.barred = v.firstOf(keepOut)
	if v.report.Login != nil { // then what is odd about the way to it has kept nobody out
		v.barred = v.firstOf([]string{"token-refused"})
	}
	v.judgeOrigin()
	if v.options.Token != "" {
		v.stepUp()
	}
}

// visit is one examination under way.
type visit struct {
	ctx      context.Context
	options  Options
	endpoint *url.URL
	local    bool // the endpoint is on loopback
	private  bool // or on a network of the person's own
	http     *http.Client
	fetch    *fetch.Client
	report   Report

	first     answer // to initialize without a token
	wall      *wall  // the challenge of the first 401
	metadata  *resourceMetadata
	servers   []issuerMetadata
	barred    string // the finding that keeps clients from their first login
	inside    bool   // the token opens the door
	refusal   *wall  // the challenge of the operation, with the token
	held      []string
	slow      int      // requests that ran into their time limit
	visitor   *visitor // who has logged in
	refreshed string   // what a refresh came to under the challenge: none, refused, same
}

func newVisit(ctx context.Context, endpoint *url.URL, o Options) *visit {
	local := fetch.IsLoopback(endpoint.Hostname())
	private := local || o.dial == nil && isPrivate(ctx, endpoint.Hostname())
	transport := &http.Transport{
		Proxy:              http.ProxyFromEnvironment,
		DialContext:        (&net.Dialer{Timeout: o.Timeout}).DialContext,
		TLSClientConfig:    &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
	}
	if o.dial != nil {
		transport.DialContext = o.dial
	}
	return &visit{
		ctx: ctx, options: o, endpoint: endpoint, local: local, private: private,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // clients do not carry a token elsewhere
		}},
		// What a server names is fetched under the rules for strangers, unless the
		// person examines a server of their own network.
		fetch:  fetch.New(fetch.Options{AllowLoopbackHTTP: local, AllowPrivate: private, RootCAs: o.RootCAs, Proxy: http.ProxyFromEnvironment, Timeout: o.Timeout}),
		report: Report{URL: endpoint.String()},
	}
}

func (v *visit) close() {
	v.http.CloseIdleConnections()
	v.fetch.CloseIdle()
}

// lookUpTime is how long a name may take before it counts as one of the open network.
const lookUpTime = 2 * time.Second

func isPrivate(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return false
	}
	for _, a := range addresses {
		if a.IP.IsPrivate() || a.IP.IsLoopback() {
			return true
		}
	}
	return false
}

// reach asks without a token, as clients do first.
func (v *visit) reach() error {
	a, err := v.post(initialize())
	if err != nil {
		return fmt.Errorf("%s does not answer: %w", v.endpoint.Host, rootCause(err))
	}
	v.first = a
	v.judgeFirst(a)
	if v.challenged() {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			v.judgeProbe(method)
		}
		v.judgeDiscover()
	}
	return nil
}

// challenged reports whether the server wants a token.
func (v *visit) challenged() bool { return v.first.status == http.StatusUnauthorized }

func rootCause(err error) error {
	if e := new(url.Error); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// judgeFirst looks at the answer to initialize without a token.
func (v *visit) judgeFirst(a answer) {
	switch {
	case a.status == http.StatusUnauthorized:
		v.wall = v.readChallenge(a)
		v.judgeFirstChallenge()
	case a.status == http.StatusForbidden:
		v.find("first-403", a.told())
	case a.status/100 == 3:
		v.find("redirect", a.line()+" Location: "+a.header.Get("Location"))
	case a.status == http.StatusOK && a.rpc() != nil:
		v.find("open", a.line())
	default:
		v.find("not-mcp", a.line())
	}
}

// judgeProbe looks at what clients meet that try with GET or HEAD (DES-20).
func (v *visit) judgeProbe(method string) {
	a, err := v.ask(method, http.Header{"Accept": {"text/event-stream"}}, nil)
	switch {
	case err != nil:
		v.find("probe-"+method, err.Error())
	case a.status != http.StatusUnauthorized:
		v.find("probe-"+method, a.line())
	case len(a.header.Values("WWW-Authenticate")) == 0:
		v.find("probe-"+method, a.line()+" without WWW-Authenticate")
	default:
		v.judgeSameChallenge(a)
	}
}

// judgeDiscover looks at how a client of 2026-07-28 is met.
func (v *visit) judgeDiscover() {
	m := modern("server/discover", nil)
	a, err := v.post(m, m.headers())
	switch {
	case err != nil:
		v.find("discover", err.Error())
	case a.status != http.StatusUnauthorized:
		v.find("discover", a.line())
	default:
		v.judgeSameChallenge(a)
	}
}

// judgeSameChallenge wants every way in to show the same challenge.
func (v *visit) judgeSameChallenge(a answer) {
	if got := a.header.Values("WWW-Authenticate"); !slices.Equal(got, v.wall.values) {
		v.find("probe-differs", a.method+": "+strings.Join(got, " | ")+"; POST of initialize: "+v.wall.header())
	}
}
