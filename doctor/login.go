package doctor

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stile-mcp/stile/scope"
	"github.com/stile-mcp/stile/stepup"
)

// Login says how to log in. Nothing of it is kept.
type Login struct {
	// Person authorises in a browser. Required.
	Person stepup.Person
	// Client is a registration made beforehand. Optional.
	Client stepup.Client
	// ClientMetadataURL is a client id metadata document (CIMD), as stepup.Config has
	// it. Optional.
	ClientMetadataURL string
	// Scopes are asked for beside those that the server names. Optional.
	Scopes []string
	// Timeout bounds one login, the person's time included. Default 5 min.
	Timeout time.Duration
}

// loginTime is the default of Login.Timeout.
const loginTime = 5 * time.Minute

// session of a person: what logging in has brought.
type visitor struct {
	store  *stepup.Memory
	person *watched
	login  *stepup.Login // the latest
}

// logIn goes on with a login, as a client does that adds up its scopes.
func (v *visit) logIn() {
	if v.options.Login == nil {
		return
	}
	if !v.challenged() {
		v.notTried("The login: the server did not ask for one.")
		return
	}
	v.visitor = &visitor{store: stepup.NewMemory(), person: &watched{Person: v.options.Login.Person, firstOnly: true}}
	var a answer
	client, err := v.client()
	if err == nil {
		a, err = v.through(client, initialize(), nil)
	}
	v.visitor.person.lift()
	if err == nil || errors.Is(err, errLater) {
		err = v.loadLogin()
	}
	if errors.Is(err, errNoLogin) && a.why != nil {
		err = a.why
	}
	if err != nil {
		v.find(loginFinding(err), loginError(err))
		return
	}
	v.judgeLogin()
}

// client is a client that logs in, and steps up once for an operation.
func (v *visit) client() (*http.Client, error) {
	l := v.options.Login
	t, err := stepup.New(stepup.Config{Base: v.http.Transport, Person: v.visitor.person, Client: l.Client, ClientMetadataURL: l.ClientMetadataURL, ClientName: "Stile doctor",
		Scopes: l.Scopes, Store: v.visitor.store, MaxStepUps: 1, LoginTimeout: cmp.Or(l.Timeout, loginTime),
		RootCAs: v.options.RootCAs, Proxy: http.ProxyFromEnvironment, AllowPrivate: v.private})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t, CheckRedirect: v.http.CheckRedirect}, nil
}

// through sends a message by a client that may log in on the way.
func (v *visit) through(client *http.Client, m rpcRequest, h http.Header) (answer, error) {
	ctx, cancel := context.WithTimeout(v.ctx, v.options.Timeout+cmp.Or(v.options.Login.Timeout, loginTime))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, v.endpoint.String(), strings.NewReader(string(m.bytes())))
	if err != nil {
		return answer{}, err
	}
	return send(client, r, joined(jsonHeaders(), h))
}

// errNoLogin is that the server was content without one after all.
var errNoLogin = errors.New("the server refused a request without a token, and then answered one")

// loadLogin reads what the login has brought.
func (v *visit) loadLogin() error {
	at := *v.endpoint
	at.RawQuery = ""
	login, err := stepup.LoadLogin(v.ctx, v.visitor.store, at.String())
	if err != nil {
		return err
	}
	if login == nil {
		return errNoLogin
	}
	v.visitor.login = login
	return nil
}

// loginFinding is what kind of failure a login was.
func loginFinding(err error) string {
	code := ""
	if e := new(stepup.DeniedError); errors.As(err, &e) {
		code = e.Code
	}
	if e := new(stepup.TokenError); errors.As(err, &e) {
		code = e.Code
	}
	switch code {
	case "invalid_scope":
		return "login-scope-refused"
	case "invalid_target":
		return "login-resource-refused"
	}
	return "login-failed"
}

// loginError is why a login failed, without what the reader knows.
func loginError(err error) string {
	if e := new(stepup.Error); errors.As(err, &e) {
		return e.Err.Error() + " (asked for " + cmp.Or(strings.Join(e.Scopes, " "), "no scope") + ")"
	}
	return rootCause(err).Error()
}

// judgeLogin looks at what the login has brought.
func (v *visit) judgeLogin() {
	l := v.visitor.login
	v.report.Login = &LoginSeen{Asked: l.Asked, Granted: l.Scopes, Refresh: l.RefreshToken != ""}
	v.held = l.Scopes
	if missing := scope.Set(l.Asked).Without(l.Scopes); l.Scopes != nil && len(missing) > 0 {
		v.find("login-less", "asked for "+strings.Join(l.Asked, " ")+", granted "+scopes(l.Scopes))
	}
	if i := slices.IndexFunc(v.servers, func(m issuerMetadata) bool { return m.Issuer == l.Issuer }); i >= 0 && !v.servers[i].Iss && v.visitor.person.named() {
		v.find("login-iss-unadvertised", "the answer to the authorization request has iss, the metadata at "+v.servers[i].at+" does not say so")
	}
	if l.Key != nil {
		v.report.Token = "bound to a key (DPoP): nothing was asked with it"
		v.notTried("What a token opens: it is bound to a key.")
		return
	}
	v.options.Token = l.AccessToken
}

// refresh does what clients of class R do before anything else: it refreshes, without
// a scope. The token is empty where the issuer refused.
func (v *visit) refresh() (token string, err error) {
	l := v.visitor.login
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {l.RefreshToken}, "resource": {l.ResourceID}}
	h := http.Header{"Accept": {"application/json"}}
	switch {
	case l.Client.Secret != "" && l.Client.Method == "client_secret_post":
		form.Set("client_id", l.Client.ID)
		form.Set("client_secret", l.Client.Secret)
	case l.Client.Secret != "":
		pair := url.QueryEscape(l.Client.ID) + ":" + url.QueryEscape(l.Client.Secret)
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	default:
		form.Set("client_id", l.Client.ID)
	}
	resp, err := v.fetch.PostForm(v.ctx, l.TokenEndpoint, form, h)
	if err != nil {
		return "", err
	}
	if resp.Status != http.StatusOK {
		return "", nil
	}
	var got struct {
		AccessToken string `json:"access_token"`
	}
	return got.AccessToken, json.Unmarshal(resp.Body, &got)
}

// watched is a Person of whom is remembered what was asked and answered. It is safe
// for concurrent use if the Person is.
type watched struct {
	stepup.Person

	mu        sync.Mutex
	firstOnly bool // no step-up is wanted yet
	asked     []stepup.Request
	answers   []url.Values
}

// errLater is the answer to a step-up that nobody has named an operation for.
var errLater = errors.New("only the first login is wanted")

// lift lets step-ups through from now on.
func (w *watched) lift() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.firstOnly = false
}

// Begin makes ready to receive the answer.
func (w *watched) Begin(ctx context.Context, preferred string) (stepup.Visit, error) {
	visit, err := w.Person.Begin(ctx, preferred)
	if err != nil {
		return nil, err
	}
	return &watchedVisit{visit, w}, nil
}

// named reports whether the issuer named itself in an answer.
func (w *watched) named() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.answers, func(a url.Values) bool { return a.Has("iss") })
}

// last is what was asked last.
func (w *watched) last() (r stepup.Request, times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) == 0 {
		return r, 0
	}
	return w.asked[len(w.asked)-1], len(w.asked)
}

type watchedVisit struct {
	stepup.Visit
	w *watched
}

// Authorize has the person open the URL.
func (v *watchedVisit) Authorize(ctx context.Context, r stepup.Request) (url.Values, error) {
	v.w.mu.Lock()
	refused := v.w.firstOnly && r.Operation != ""
	v.w.mu.Unlock()
	if refused {
		return nil, errLater
	}
	answer, err := v.Visit.Authorize(ctx, r)
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	v.w.asked = append(v.w.asked, r)
	if err == nil {
		v.w.answers = append(v.w.answers, answer)
	}
	return answer, err
}

// Told tells the person how it ended.
func (v *watchedVisit) Told(err error) {
	if t, ok := v.Visit.(stepup.Teller); ok {
		t.Told(err)
	}
}
