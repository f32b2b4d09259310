package authenticate

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/fetch"
	"github.com/stile-mcp/stile/internal/problem"
)

// Defaults and bounds of Introspection.
const (
	DefaultIntrospectionTimeout  = 5 * time.Second
	DefaultIntrospectionCache    = time.Minute
	DefaultIntrospectionNegative = 10 * time.Second
	// maxAnswer bounds an introspection answer, in bytes.
	maxAnswer = 256 << 10
	// maxAsking bounds how many requests are under way at one endpoint, maxQueue
	// how many more may wait for their turn; the rest is Unavailable at once.
	maxAsking, maxQueue = 64, 1024
	// maxPause bounds what Retry-After may ask for.
	maxPause = time.Minute
)

// IntrospectionConfig says how an issuer is asked about opaque tokens.
type IntrospectionConfig struct {
	// Issuer is the issuer identifier, given to the identities and compared byte
	// for byte with iss where an answer has one. Required.
	Issuer string
	// URL is the introspection endpoint: https, or http on loopback. Required.
	URL string
	// ClientID and ClientSecret are what the endpoint knows this gateway by.
	// Both are required: an endpoint that answers anybody tells anybody.
	ClientID, ClientSecret string
	// SecretInBody sends them as form parameters (client_secret_post) instead of
	// in the header (client_secret_basic, RFC 6749 §2.3.1).
	SecretInBody bool
	// Audiences are the accepted values of aud, of which an answer must name one,
	// byte for byte. At least one, unless DangerouslyAnyAudience is set.
	Audiences []string
	// DangerouslyAnyAudience accepts active tokens whatever they are meant for,
	// also without aud. It is safe only where the endpoint itself calls a token
	// active for nobody but the client it was meant for.
	DangerouslyAnyAudience bool
	// DangerouslyNoAudienceClients, ScopeClaims, ScopePrefix, Grantable, SubjectClaim,
	// NonInteractiveClients, KeepClaims and ClockSkew are as in JWTConfig.
	DangerouslyNoAudienceClients []string
	ScopeClaims                  []string
	ScopePrefix                  string
	Grantable                    []string
	SubjectClaim                 string
	NonInteractiveClients        []string
	KeepClaims                   bool
	ClockSkew                    time.Duration
	// Timeout bounds one request. Default 5 s.
	Timeout time.Duration
	// CacheTTL is how long an active answer is remembered, never beyond exp.
	// Default 60 s. A token that was revoked works that much longer.
	CacheTTL time.Duration
	// NegativeTTL is how long another answer is remembered. Default 10 s.
	NegativeTTL time.Duration
	// OpaqueOnly answers Unknown to signed JWTs, which a JWT verifier handles.
	// JWTs of other issuers are never sent.
	OpaqueOnly bool
	// Transport replaces the network, as in KeySetConfig.
	Transport http.RoundTripper
}

// Introspection asks an issuer about tokens (RFC 7662). It remembers nothing
// itself: Authenticator does, for as long as Lifetimes says, and asks once
// however many requests carry the same new token. It is safe for concurrent use.
type Introspection struct {
	mapping            mapping
	config             IntrospectionConfig
	client             *fetch.Client
	header             http.Header
	breaker            breaker
	asking, waiting    chan struct{}
	positive, negative time.Duration
}

// NewIntrospection checks the configuration; the error is a list of every mistake.
func NewIntrospection(c IntrospectionConfig) (*Introspection, error) {
	c.setDefaults()
	v := &Introspection{config: c, positive: c.CacheTTL, negative: c.NegativeTTL,
		asking: make(chan struct{}, maxAsking), waiting: make(chan struct{}, maxAsking+maxQueue)}
	v.mapping = mapping{
		profile:     &Profile{Issuer: c.Issuer, ScopePrefix: c.ScopePrefix, Grantable: slices.Clone(c.Grantable)},
		names:       newClaimNames(c.ScopeClaims, c.SubjectClaim),
		audiences:   slices.Clone(c.Audiences),
		anyAudience: c.DangerouslyAnyAudience,
		noAudience:  setOf(c.DangerouslyNoAudienceClients),
		skew:        c.ClockSkew,
		final:       setOf(c.NonInteractiveClients),
		keep:        c.KeepClaims,
	}
	var mistakes problem.List
	checkIssuer(&mistakes, c.Issuer)
	if c.URL == "" {
		mistakes.Add("url", "", "the URL of the introspection endpoint")
	}
	checkURL(&mistakes, "url", c.URL)
	if c.ClientID == "" {
		mistakes.Add("client_id", "", "the client id that the endpoint knows this gateway by")
	}
	if c.ClientSecret == "" {
		mistakes.Add("client_secret", "", "the secret that goes with client_id")
	}
	checkMapping(&mistakes, &v.mapping, c.ClockSkew)
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	v.header = http.Header{"Accept": {"application/json"}}
	if !c.SecretInBody {
		v.header.Set("Authorization", basic(c.ClientID, c.ClientSecret))
	}
	v.client = fetch.New(fetch.Options{MaxBytes: maxAnswer, Timeout: c.Timeout, AllowPrivate: true,
		AllowLoopbackHTTP: true, Transport: c.Transport})
	return v, nil
}

func (c *IntrospectionConfig) setDefaults() {
	if c.ClockSkew == 0 {
		c.ClockSkew = DefaultClockSkew
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultIntrospectionTimeout
	}
	if c.CacheTTL <= 0 {
		c.CacheTTL = DefaultIntrospectionCache
	}
	if c.NegativeTTL <= 0 {
		c.NegativeTTL = DefaultIntrospectionNegative
	}
}

// basic is client_secret_basic: both parts form-encoded before they are joined
// (RFC 6749 §2.3.1), so that a colon or a non-ASCII letter is understood.
func basic(id, secret string) string {
	pair := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

// Issuer is the issuer identifier.
func (v *Introspection) Issuer() string { return v.mapping.profile.Issuer }

// Profile is what later stages know of the issuer.
func (v *Introspection) Profile() *Profile { return v.mapping.profile }

// Lifetimes bounds how long answers are remembered: see Cacheable.
func (v *Introspection) Lifetimes() (positive, negative time.Duration) { return v.positive, v.negative }

// Close closes the connections that are kept for the next request. The
// Introspection stays usable.
func (v *Introspection) Close() { v.client.CloseIdle() }

// Ready reports the last outage until a request has succeeded again. It asks
// nothing itself.
func (v *Introspection) Ready(context.Context) error {
	if err := v.breaker.state(); err != nil {
		return fmt.Errorf("introspection of %s: %w", v.Issuer(), err)
	}
	return nil
}

// Verify asks about one token. The error is always an *Error: Unknown where the
// issuer says that it is not active (another one may have issued it), Invalid
// where it is active and still refused, Unavailable where there is no answer.
func (v *Introspection) Verify(ctx context.Context, token string) (*Identity, error) {
	if v.notOurs(token) {
		return nil, &Error{Kind: Unknown, Description: "not an opaque token of this issuer"}
	}
	answer, refusal := v.ask(ctx, token)
	if refusal != nil {
		return nil, refusal
	}
	c, err := readClaims(answer, &v.mapping.names)
	switch {
	case err != nil:
		return nil, invalid("the token cannot be read", fmt.Errorf("introspection of %s: expected one JSON object: %w", v.Issuer(), err))
	case !c.active:
		return nil, &Error{Kind: Unknown, Description: "the token is not active"}
	case c.hasIssuer && c.issuer != v.Issuer():
		return nil, invalid("the token is not active", errIssuer)
	}
	if refusal := v.mapping.check(&c, true, time.Now()); refusal != nil {
		return nil, refusal
	}
	id := v.mapping.identity(&c, answer, token)
	id.Recheck = v.positive
	return id, nil
}

// notOurs keeps JWTs that say they are somebody else's from being shown to this
// issuer.
func (v *Introspection) notOurs(token string) bool {
	parts, err := splitCompact(token)
	if err != nil {
		return false
	}
	if v.config.OpaqueOnly {
		return true
	}
	c, err := readClaims(parts.payload, &v.mapping.names)
	return err == nil && c.hasIssuer && c.issuer != v.Issuer()
}

var (
	errBusy        = errors.New("too many requests are waiting")
	errCredentials = errors.New("the endpoint refused our client credentials")
)

// ask sends the request, unless the endpoint is known to be down or too many
// wait, and returns the body of a good answer.
func (v *Introspection) ask(ctx context.Context, token string) ([]byte, *Error) {
	if wait, cause := v.breaker.admit(v.config.Timeout); cause != nil {
		return nil, v.unavailable(wait, cause)
	}
	release, err := v.turn(ctx)
	if err != nil {
		v.breaker.abandon()
		return nil, v.unavailable(0, err)
	}
	defer release()
	r, err := v.client.PostForm(ctx, v.config.URL, v.form(token), v.header)
	if ctx.Err() != nil {
		v.breaker.abandon()
		return nil, v.unavailable(0, ctx.Err())
	}
	weight, cause := judge(r, err)
	if cause == nil {
		v.breaker.done(0, 0, nil)
		return r.Body, nil
	}
	pause := retryAfter(r.Header)
	if weight > 0 {
		v.breaker.done(weight, pause, cause)
	} else {
		v.breaker.abandon()
	}
	return nil, v.unavailable(pause, cause)
}

// turn waits until fewer than maxAsking requests are under way.
func (v *Introspection) turn(ctx context.Context) (release func(), err error) {
	select {
	case v.waiting <- struct{}{}:
	default:
		return nil, errBusy
	}
	select {
	case v.asking <- struct{}{}:
		return func() { <-v.asking; <-v.waiting }, nil
	case <-ctx.Done():
		<-v.waiting
		return nil, ctx.Err()
	}
}

func (v *Introspection) form(token string) url.Values {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if v.config.SecretInBody {
		form.Set("client_id", v.config.ClientID)
		form.Set("client_secret", v.config.ClientSecret)
	}
	return form
}

// judge says what is wrong with an answer, and how much that weighs with the
// breaker. A 400 weighs nothing: some endpoints send it for tokens they cannot
// read, and such a token must not shut out all others.
func judge(r fetch.Response, err error) (weight int, cause error) {
	switch {
	case err != nil && r.Status == 0:
		return tripAt, err
	case err != nil:
		return 1, err
	case r.Status == http.StatusUnauthorized, r.Status == http.StatusForbidden:
		return tripAt, fmt.Errorf("%w: status %d", errCredentials, r.Status)
	case r.Status == http.StatusBadRequest:
		return 0, errors.New("status 400")
	case r.Status != http.StatusOK:
		return 1, fmt.Errorf("expected status 200, got %d", r.Status)
	case !fetch.IsJSON(r.Header.Get("Content-Type")):
		return 1, fmt.Errorf("expected application/json, got %.60q", r.Header.Get("Content-Type"))
	}
	return 0, nil
}

// retryAfter is the pause that an answer asks for, in seconds (RFC 9110 §10.2.3).
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(strings.TrimSpace(h.Get("Retry-After")), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxPause)
}

func (v *Introspection) unavailable(wait time.Duration, cause error) *Error {
	return &Error{Kind: Unavailable, Description: "the issuer cannot be asked about the token",
		RetryAfter: max(wait.Round(time.Second), time.Second), Err: fmt.Errorf("introspection of %s: %w", v.Issuer(), cause)}
}
