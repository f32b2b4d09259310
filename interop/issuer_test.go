package interop_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// redirectURI is where clients are called back. Nobody listens there: the
// browser stops before it follows.
const redirectURI = "http://127.0.0.1:3334/callback"

// maxRedirects is more than a login takes.
const maxRedirects = 20

// issuer is a running oidc/server.mjs.
type issuer struct {
	url string
}

// authorization is one authorization request that the issuer was asked.
type authorization struct {
	Outcome   string `json:"outcome"` // "granted", or the error
	Scope     string `json:"scope"`
	Resource  string `json:"resource"`
	ClientID  string `json:"client_id"`
	Challenge string `json:"code_challenge_method"`
}

// issued is one answer of the token endpoint.
type issued struct {
	Grant    string `json:"grant_type"`
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
	Refresh  bool   `json:"refresh_token"`
}

// issuerLog is what an issuer was asked, in order.
type issuerLog struct {
	Authorizations []authorization `json:"authorizations"`
	Registrations  []struct {
		Scope string `json:"scope"`
	} `json:"registrations"`
	Tokens         []issued `json:"tokens"`
	Introspections int      `json:"introspections"` // how often a token was asked about
}

// startIssuer runs npm oidc-provider; env is explained in oidc/server.mjs.
func startIssuer(t *testing.T, env ...string) *issuer {
	t.Helper()
	p := start(t, env, node(t), "oidc/server.mjs")
	var ready struct{ Issuer string }
	if err := json.Unmarshal([]byte(p.line("issuer")), &ready); err != nil {
		t.Fatal(err)
	}
	return &issuer{url: ready.Issuer}
}

// log answers what the issuer was asked since it started.
func (i *issuer) log(t *testing.T) issuerLog {
	t.Helper()
	var log issuerLog
	getJSON(t, i.url+"/_log", &log)
	return log
}

// since answers what the issuer was asked after earlier.
func (i *issuer) since(t *testing.T, earlier issuerLog) issuerLog {
	t.Helper()
	log := i.log(t)
	log.Authorizations = log.Authorizations[len(earlier.Authorizations):]
	log.Registrations = log.Registrations[len(earlier.Registrations):]
	log.Tokens = log.Tokens[len(earlier.Tokens):]
	log.Introspections -= earlier.Introspections
	return log
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatalf("%s: %s: %v", url, response.Status, err)
	}
}

// token registers a client, logs alice in and answers an access token for the
// resource with the scopes.
func (i *issuer) token(t *testing.T, resource, scope string) string {
	t.Helper()
	var client struct {
		ID string `json:"client_id"`
	}
	i.post(t, "/reg", "application/json", fmt.Sprintf(
		`{"redirect_uris":[%q],"token_endpoint_auth_method":"none","grant_types":["authorization_code"]}`, redirectURI), &client)
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	callback, err := visit(t.Context(), i.url+"/auth?"+url.Values{
		"response_type": {"code"}, "client_id": {client.ID}, "redirect_uri": {redirectURI},
		"scope": {scope}, "resource": {resource}, "state": {rand.Text()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Token string `json:"access_token"`
		Scope string `json:"scope"`
	}
	i.post(t, "/token", "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Get("code")}, "client_id": {client.ID},
		"redirect_uri": {redirectURI}, "code_verifier": {verifier}, "resource": {resource},
	}.Encode(), &answer)
	if answer.Scope != scope {
		t.Fatalf("token with scope %q, want %q", answer.Scope, scope)
	}
	return answer.Token
}

func (i *issuer) post(t *testing.T, path, mediaType, body string, into any) {
	t.Helper()
	response, err := http.Post(i.url+path, mediaType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		t.Fatalf("POST %s: %s: %s", path, response.Status, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		t.Fatalf("POST %s: %v: %s", path, err, answer)
	}
}

// visit is a person with a browser: it follows redirects from an authorization
// URL with a fresh cookie jar and answers the query of the redirect to the client.
func visit(ctx context.Context, authorizationURL string) (url.Values, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	var callback url.Values
	browser := &http.Client{Jar: jar, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if strings.HasPrefix(next.URL.String(), redirectURI) {
			callback = next.URL.Query()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, authorizationURL, nil)
	if err != nil {
		return nil, err
	}
	response, err := browser.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if callback == nil {
		body, _ := io.ReadAll(response.Body)
		return nil, fmt.Errorf("no redirect to the client: %s: %s", response.Status, body)
	}
	if code := callback.Get("error"); code != "" {
		return nil, fmt.Errorf("login refused: %s %s", code, callback.Get("error_description"))
	}
	return callback, nil
}
