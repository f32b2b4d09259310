package provider_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/provider"
	"github.com/stile-mcp/stile/internal/problem"
)

// op is an OpenID provider with one client. It really checks what it is sent, and
// can be told to answer wrongly.
type op struct {
	t        *testing.T
	server   *httptest.Server
	key      *ecdsa.PrivateKey
	codes    map[string]url.Values // code → authorization request
	claims   map[string]any        // put into ID tokens; nil removes
	userinfo map[string]any        // nil: there is none
	sendsIss bool
	issuer   string // in the metadata
	down     bool
	asked    []string // paths
}

func newOP(t *testing.T) *op {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := &op{t: t, key: key, codes: map[string]url.Values{}, claims: map[string]any{"email": "ada@example.com", "email_verified": true}}
	o.server = httptest.NewServer(o)
	t.Cleanup(o.server.Close)
	o.issuer = o.server.URL
	return o
}

func (o *op) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.asked = append(o.asked, r.URL.Path)
	if o.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		document := map[string]any{"issuer": o.issuer, "authorization_endpoint": o.server.URL + "/authorize", "token_endpoint": o.server.URL + "/token",
			"jwks_uri": o.server.URL + "/jwks", "id_token_signing_alg_values_supported": []string{"ES256"}, "authorization_response_iss_parameter_supported": o.sendsIss}
		if o.userinfo != nil {
			document["userinfo_endpoint"] = o.server.URL + "/userinfo"
		}
		reply(w, http.StatusOK, document)
	case "/jwks":
		reply(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: o.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	case "/token":
		o.token(w, r)
	case "/userinfo":
		if r.Header.Get("Authorization") != "Bearer access" {
			reply(w, http.StatusUnauthorized, nil)
			return
		}
		reply(w, http.StatusOK, o.userinfo)
	default:
		http.NotFound(w, r)
	}
}

func reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// token redeems a code, once, for whoever holds its verifier and the secret.
func (o *op) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	code := r.PostFormValue("code")
	request, ok := o.codes[code]
	delete(o.codes, code)
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || id != "stile" || secret != "s3cret" || r.PostFormValue("redirect_uri") != request.Get("redirect_uri") ||
		request.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) {
		reply(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	now := time.Now().Unix()
	claims := map[string]any{"iss": o.issuer, "sub": "248289761001", "aud": "stile", "iat": now, "exp": now + 300, "nonce": request.Get("nonce")}
	maps.Copy(claims, o.claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: o.key, KeyID: "k"}}, nil)
	if err != nil {
		o.t.Error(err)
	}
	payload, _ := json.Marshal(claims)
	signed, err := signer.Sign(payload)
	if err != nil {
		o.t.Error(err)
	}
	raw, _ := signed.CompactSerialize()
	reply(w, http.StatusOK, map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": 300, "id_token": raw})
}

// authorize is what a browser gets back that was sent to address and signed in.
func (o *op) authorize(address string) url.Values {
	o.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		o.t.Fatal(err)
	}
	q := u.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": "stile", "code_challenge_method": "S256", "redirect_uri": callback} {
		if q.Get(name) != want {
			o.t.Errorf("%s is %q, want %q", name, q.Get(name), want)
		}
	}
	if len(q.Get("nonce")) < 22 || len(q.Get("state")) < 22 || q.Get("nonce") == q.Get("state") {
		o.t.Errorf("nonce %q and state %q", q.Get("nonce"), q.Get("state"))
	}
	code := rand.Text()
	o.codes[code] = q
	return url.Values{"code": {code}, "state": {q.Get("state")}}
}

const callback = "https://mcp.example.com/authserver/provider/callback"

// secretsOf are the secrets of one browser.
func secretsOf(browser string) provider.Secrets {
	return func(purpose string, values ...string) string {
		sum := sha256.Sum256([]byte(browser + "|" + purpose + "|" + strings.Join(values, "|")))
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
}

func (o *op) config() provider.Config {
	return provider.Config{Issuer: o.server.URL, ClientID: "stile", ClientSecret: "s3cret", RedirectURL: callback, AllowEmails: []string{"@example.com"}}
}

// signIn goes all the way; change may change the answer on its way back.
func (o *op) signIn(config provider.Config, change func(url.Values)) (people.Person, string, error) {
	o.t.Helper()
	p, err := provider.New(config)
	if err != nil {
		o.t.Fatal(err)
	}
	address, err := p.Begin(o.t.Context(), secretsOf("one"), "request-7")
	if err != nil {
		o.t.Fatal(err)
	}
	answer := o.authorize(address)
	if change != nil {
		change(answer)
	}
	return p.Finish(o.t.Context(), secretsOf("one"), answer)
}

func TestSignIn(t *testing.T) {
	o := newOP(t)
	person, next, err := o.signIn(o.config(), nil)
	if err != nil || next != "request-7" || person.Name != "ada@example.com" || !strings.HasPrefix(person.Subject, "oidc-") || person.Scopes != nil {
		t.Fatalf("%+v, %q, %v", person, next, err)
	}
	again, _, err := o.signIn(o.config(), nil)
	if err != nil || again.Subject != person.Subject {
		t.Errorf("signed in again as %+v, %v", again, err)
	}
	o.claims["sub"] = "somebody else"
	if other, _, err := o.signIn(o.config(), nil); err != nil || other.Subject == person.Subject {
		t.Errorf("somebody else is %+v, %v", other, err)
	}
}

// What comes back has to be what this browser was sent away with.
func TestAnswersThatAreNotOurs(t *testing.T) {
	o := newOP(t)
	p, err := provider.New(o.config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, mine, theirs := t.Context(), secretsOf("mine"), secretsOf("theirs")
	address, err := p.Begin(ctx, mine, "")
	if err != nil {
		t.Fatal(err)
	}
	other, err := p.Begin(ctx, theirs, "")
	if err != nil {
		t.Fatal(err)
	}
	// Login CSRF: their answer in my browser, whole or only its code.
	if _, _, err := p.Finish(ctx, mine, o.authorize(other)); !errors.Is(err, provider.ErrState) {
		t.Errorf("an answer to another browser: %v", err)
	}
	swapped := o.authorize(address)
	swapped.Set("code", o.authorize(other).Get("code"))
	if _, _, err := p.Finish(ctx, mine, swapped); !errors.Is(err, provider.ErrRefused) {
		t.Errorf("a code of another browser: %v", err) // PKCE
	}
	good := o.authorize(address)
	for name, values := range map[string]url.Values{
		"no state":   {"code": good["code"]},
		"two states": {"code": good["code"], "state": {good.Get("state"), good.Get("state")}},
		"two codes":  {"code": {good.Get("code"), "x"}, "state": good["state"]},
		"changed":    {"code": good["code"], "state": {"1" + good.Get("state")}},
		"unsealed":   {"code": good["code"], "state": {"a.b.c"}},
	} {
		if _, _, err := p.Finish(ctx, mine, values); !errors.Is(err, provider.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := p.Finish(ctx, mine, good); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Finish(ctx, mine, good); !errors.Is(err, provider.ErrRefused) {
		t.Errorf("the same answer twice: %v", err)
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		claims   map[string]any
		sendsIss bool
		answer   func(url.Values)
		want     error
	}{
		"its own refusal":     {answer: func(v url.Values) { v.Del("code"); v.Set("error", "access_denied") }, want: provider.ErrRefused},
		"no code":             {answer: func(v url.Values) { v.Del("code") }, want: provider.ErrRefused},
		"another iss":         {answer: func(v url.Values) { v.Set("iss", "https://evil.example") }, want: provider.ErrRefused},
		"iss left out":        {sendsIss: true, want: provider.ErrRefused},
		"another issuer":      {claims: map[string]any{"iss": "https://evil.example"}, want: provider.ErrRefused},
		"another client":      {claims: map[string]any{"aud": "another"}, want: provider.ErrRefused},
		"expired":             {claims: map[string]any{"exp": 1}, want: provider.ErrRefused},
		"another nonce":       {claims: map[string]any{"nonce": "x"}, want: provider.ErrState},
		"no nonce":            {claims: map[string]any{"nonce": nil}, want: provider.ErrState},
		"no subject":          {claims: map[string]any{"sub": nil}, want: provider.ErrRefused},
		"address not proved":  {claims: map[string]any{"email_verified": false}, want: provider.ErrNotAllowed},
		"nothing proved":      {claims: map[string]any{"email_verified": nil}, want: provider.ErrNotAllowed},
		"another domain":      {claims: map[string]any{"email": "ada@example.org"}, want: provider.ErrNotAllowed},
		"a domain behind":     {claims: map[string]any{"email": "ada@evil-example.com"}, want: provider.ErrNotAllowed},
		"two at signs":        {claims: map[string]any{"email": "ada@example.com@evil.org"}, want: provider.ErrNotAllowed},
		"no address":          {claims: map[string]any{"email": nil}, want: provider.ErrNotAllowed},
		"only a domain":       {claims: map[string]any{"email": "@example.com"}, want: provider.ErrNotAllowed},
		"looks like our name": {claims: map[string]any{"email": "ada@e\u212aample.com"}, want: provider.ErrNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOP(t)
			o.sendsIss = c.sendsIss
			maps.Copy(o.claims, c.claims)
			if person, _, err := o.signIn(o.config(), c.answer); !errors.Is(err, c.want) {
				t.Errorf("%+v, %v, want %v", person, err, c.want)
			}
		})
	}
}

func TestWhoMayAndWhat(t *testing.T) {
	for name, c := range map[string]struct {
		config func(*provider.Config)
		claims map[string]any
		info   map[string]any
		want   []string
		err    error
	}{
		"address, in capitals": {config: func(c *provider.Config) { c.AllowEmails = []string{"ADA@Example.com"} }},
		"true as text":         {claims: map[string]any{"email_verified": "true"}},
		"group":                {config: byGroup, claims: map[string]any{"groups": []any{"x", "staff"}}},
		"a single group":       {config: byGroup, claims: map[string]any{"groups": "staff"}},
		"in no group":          {config: byGroup, err: provider.ErrNotAllowed},
		"in another case":      {config: byGroup, claims: map[string]any{"groups": []any{"Staff"}}, err: provider.ErrNotAllowed},
		"scopes of groups": {config: withScopes, claims: map[string]any{"groups": []any{"staff", "admins", "unknown"}},
			want: []string{"notes:admin", "notes:read", "notes:write"}},
		"scopes of no group":    {config: withScopes, want: []string{}},
		"userinfo":              {config: withScopes, claims: map[string]any{"email": nil, "email_verified": nil}, info: map[string]any{"sub": "248289761001", "email": "ada@example.com", "email_verified": true, "groups": []any{"staff"}}, want: []string{"notes:read", "notes:write"}},
		"userinfo of another":   {claims: map[string]any{"email": nil}, info: map[string]any{"sub": "x", "email": "ada@example.com", "email_verified": true}, err: provider.ErrRefused},
		"address not proved":    {claims: map[string]any{"email": nil}, info: map[string]any{"sub": "248289761001", "email": "ada@example.com"}, err: provider.ErrNotAllowed},
		"userinfo cannot vouch": {claims: map[string]any{"email_verified": nil}, info: map[string]any{"sub": "248289761001", "email": "eve@evil.org", "email_verified": true}, err: provider.ErrNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOP(t)
			maps.Copy(o.claims, c.claims)
			o.userinfo = c.info
			config := o.config()
			if c.config != nil {
				c.config(&config)
			}
			person, _, err := o.signIn(config, nil)
			if !errors.Is(err, c.err) || c.err == nil && !reflect.DeepEqual(person.Scopes, c.want) {
				t.Errorf("%+v, %v", person, err)
			}
		})
	}
}

// How somebody is called is asked for, even where the lists need no address.
func TestNames(t *testing.T) {
	o := newOP(t)
	o.claims = map[string]any{"groups": "staff"}
	config := o.config()
	byGroup(&config)
	if person, _, err := o.signIn(config, nil); err != nil || person.Name != "248289761001" {
		t.Errorf("%+v, %v", person, err)
	}
	o.userinfo = map[string]any{"sub": "248289761001", "email": "ada@example.com", "email_verified": true}
	if person, _, err := o.signIn(config, nil); err != nil || person.Name != "ada@example.com" {
		t.Errorf("%+v, %v", person, err)
	}
	o.claims["email"], o.claims["email_verified"], o.claims["preferred_username"] = "eve@evil.org", false, "eve"
	if person, _, err := o.signIn(config, nil); err != nil || person.Name != "eve" {
		t.Errorf("%+v, %v", person, err)
	}
}

func byGroup(c *provider.Config) { c.AllowEmails, c.AllowGroups = nil, []string{"staff"} }

func withScopes(c *provider.Config) {
	c.Groups = map[string][]string{"staff": {"notes:read", "notes:write"}, "admins": {"notes:admin", "notes:read"}}
}

func TestProviderThatIsDown(t *testing.T) {
	o := newOP(t)
	o.down = true
	p, err := provider.New(o.config())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Begin(t.Context(), secretsOf("one"), ""); !errors.Is(err, provider.ErrUnavailable) {
		t.Errorf("down: %v", err)
	}
	o.down = false
	address, err := p.Begin(t.Context(), secretsOf("one"), "")
	if err != nil {
		t.Fatalf("up again: %v", err)
	}
	answer := o.authorize(address)
	o.down = true
	if _, _, err := p.Finish(t.Context(), secretsOf("one"), answer); !errors.Is(err, provider.ErrUnavailable) {
		t.Errorf("down in between: %v", err)
	}
}

func TestMetadataOfAnother(t *testing.T) {
	o := newOP(t)
	o.issuer = "https://evil.example"
	p, err := provider.New(o.config())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Begin(t.Context(), secretsOf("one"), ""); !errors.Is(err, provider.ErrUnavailable) {
		t.Errorf("accepted: %v", err)
	}
}

func TestStateExpires(t *testing.T) {
	o := newOP(t)
	metadata := o.config()
	p, err := provider.New(metadata)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Begin(t.Context(), secretsOf("one"), ""); err != nil {
		t.Fatal(err) // now it knows the provider, and needs no network
	}
	synctest.Test(t, func(t *testing.T) {
		address, err := p.Begin(t.Context(), secretsOf("one"), "")
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(address)
		answer := url.Values{"state": {u.Query().Get("state")}, "error": {"access_denied"}}
		time.Sleep(15*time.Minute - time.Second)
		if _, _, err := p.Finish(t.Context(), secretsOf("one"), answer); !errors.Is(err, provider.ErrRefused) {
			t.Errorf("in time: %v", err)
		}
		time.Sleep(time.Second)
		if _, _, err := p.Finish(t.Context(), secretsOf("one"), answer); !errors.Is(err, provider.ErrState) {
			t.Errorf("too late: %v", err)
		}
	})
}

func TestConfigMistakes(t *testing.T) {
	_, err := provider.New(provider.Config{Issuer: "http://login.example.com", Scopes: []string{"email"}, AllowEmails: []string{"ada", "*@example.com"},
		Groups: map[string][]string{"staff": {"notes read"}}})
	var found problem.List
	if !errors.As(err, &found) {
		t.Fatal(err)
	}
	var paths []string
	for _, one := range found {
		paths = append(paths, one.Path)
	}
	if want := []string{"issuer", "client_id", "allow.emails[0]", "allow.emails[1]", "scopes", "groups.staff"}; !reflect.DeepEqual(paths, want) {
		t.Errorf("%v, want %v", paths, want)
	}
	if _, err := provider.New(provider.Config{Issuer: "https://login.example.com", ClientID: "x"}); !errors.As(err, &found) || found[0].Path != "allow" {
		t.Errorf("nobody is allowed: %v", err)
	}
}
