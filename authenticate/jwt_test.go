package authenticate_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/scope"
)

func TestJWTIdentity(t *testing.T) {
	n := goodNetwork()
	v := newJWT(t, n, func(c *authenticate.JWTConfig) { c.Grantable = []string{"notes:*"} })
	token := goodToken()
	id, err := verify(t, v, token)
	if err != nil {
		t.Fatal(err)
	}
	if id.Issuer != issuerURL || id.Subject != "alice" || id.ClientID != "app" || id.Final || id.Claims != nil {
		t.Errorf("identity %+v", id)
	}
	if !slices.Equal(id.Scopes, scope.Set{"notes:read", "notes:write"}) {
		t.Errorf("scopes %q", id.Scopes)
	}
	if id.TokenHash != sha256.Sum256([]byte(token)) {
		t.Error("TokenHash is not that of the token")
	}
	if lives := id.Expiry.Sub(id.IssuedAt); lives != 330*time.Second {
		t.Errorf("expiry minus issue is %v, want lifetime plus clock skew", lives)
	}
	if id.Profile != v.Profile() || id.Profile.Issuer != issuerURL || id.Profile.Grantable[0] != "notes:*" {
		t.Errorf("profile %+v", id.Profile)
	}
	other, _ := verify(t, v, goodToken())
	if &id.Scopes[0] != &other.Scopes[0] {
		t.Error("equal scope sets are not shared")
	}
}

// Each of these differs from a good token in what its name says.
func TestJWTAccepts(t *testing.T) {
	claims := func(name string, value any) string {
		return sign(ecKey(), "ES256", goodHeader().String(), goodClaims().with(name, value).String())
	}
	head := func(name string, value any) string {
		return sign(ecKey(), "ES256", goodHeader().with(name, value).String(), goodClaims().String())
	}
	now := time.Now().Unix()
	tests := map[string]string{
		"RS256":                     sign(rsaKey(), "RS256", `{"alg":"RS256","kid":"rsa"}`, goodClaims().String()),
		"PS256":                     sign(rsaKey(), "PS256", `{"alg":"PS256","kid":"rsa"}`, goodClaims().String()),
		"EdDSA":                     sign(edKey(), "EdDSA", `{"alg":"EdDSA","kid":"ed"}`, goodClaims().String()),
		"no kid, one key fits":      head("kid", absent),
		"typ JWT":                   head("typ", "JWT"),
		"typ jwt":                   head("typ", "jwt"),
		"typ media type":            head("typ", "application/AT+JWT"),
		"no typ":                    head("typ", absent),
		"aud array":                 claims("aud", []string{"https://other.example", audience}),
		"expired within the skew":   claims("exp", now-20),
		"not before, within skew":   claims("nbf", now+20),
		"issued within the skew":    claims("iat", now+20),
		"exp with a fraction":       claims("exp", float64(now)+300.5),
		"no iat":                    claims("iat", absent),
		"no scope":                  claims("scope", absent),
		"no client":                 claims("client_id", absent),
		"null client":               claims("client_id", nil),
		"at+jwt with a nonce":       claims("nonce", "n"),
		"key of its own ignored":    head("jwk", jwk("ec", "", otherKey().Public())),
		"key place of its own":      head("jku", "https://evil.example/keys"),
		"members of other case":     claims("ISS", "https://evil.example"),
		"odd vendor claims":         claims("typ", 7),
		"Keycloak access token":     sign(ecKey(), "ES256", goodHeader().with("typ", "JWT").String(), goodClaims().with("typ", "Bearer").with("nonce", "n").String()),
		"Cognito access token":      claims("token_use", "access"),
		"deep claim":                claims("deep", json.RawMessage(strings.Repeat("[", 500)+strings.Repeat("]", 500))),
		"escaped member names":      sign(ecKey(), "ES256", goodHeader().String(), strings.Replace(goodClaims().String(), `"iss"`, `"\u0069ss"`, 1)),
		"whitespace in the payload": sign(ecKey(), "ES256", goodHeader().String(), " "+strings.ReplaceAll(goodClaims().String(), ",", " ,\n")+" "),
	}
	v := newJWT(t, goodNetwork())
	for name, token := range tests {
		t.Run(name, func(t *testing.T) {
			if id, err := verify(t, v, token); err != nil {
				t.Errorf("refused: %v", err)
			} else if id.Issuer != issuerURL || id.Subject != "alice" {
				t.Errorf("identity %+v", id)
			}
		})
	}
}

// flip changes the bits of one byte of the decoded part of a token.
func flip(token string, part, at int, bits byte) string {
	parts := strings.Split(token, ".")
	raw := must(jsonB64(parts[part]))
	raw[(at+len(raw))%len(raw)] ^= bits
	parts[part] = encode(string(raw))
	return strings.Join(parts, ".")
}

type hostile struct {
	name, token string
	kind        authenticate.Kind
	want        string // part of description or cause
}

// hostileTokens are attacks.md and RFC 8725, a row each.
func hostileTokens() []hostile {
	const invalid, unknown = authenticate.Invalid, authenticate.Unknown
	claims := func(name string, value any) string {
		return sign(ecKey(), "ES256", goodHeader().String(), goodClaims().with(name, value).String())
	}
	head := func(name string, value any) string {
		return sign(ecKey(), "ES256", goodHeader().with(name, value).String(), goodClaims().String())
	}
	untyped := func(name string, value any) string {
		return sign(ecKey(), "ES256", goodHeader().with("typ", absent).String(), goodClaims().with(name, value).String())
	}
	raw := func(header, payload string) string { return sign(ecKey(), "ES256", header, payload) }
	now := time.Now().Unix()
	good := goodToken()
	parts := strings.Split(good, ".")
	der := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return []hostile{
		{"alg none", encode(`{"alg":"none","kid":"ec"}`) + "." + parts[1] + ".", invalid, "alg is not among"},
		{"alg None", encode(`{"alg":"None","kid":"ec"}`) + "." + parts[1] + ".", invalid, "alg is not among"},
		{"alg none, signed", raw(`{"alg":"none","kid":"ec"}`, goodClaims().String()), invalid, "alg is not among"},
		{"alg empty", head("alg", ""), invalid, "alg is not among"},
		{"alg missing", head("alg", absent), unknown, "not a signed JWT"},
		{"alg a number", head("alg", 256), invalid, "must be strings"},
		{"HS256 with the public key", sign(public, "HS256", `{"alg":"HS256","kid":"rsa"}`, goodClaims().String()), invalid, "alg is not among"},
		{"HS256 with its DER", sign(der, "HS256", `{"alg":"HS256","kid":"rsa"}`, goodClaims().String()), invalid, "alg is not among"},
		{"alg known but not configured", head("alg", "ES384"), invalid, "alg is not among"},
		{"EC key as RSA", sign(ecKey(), "ES256", `{"alg":"RS256","kid":"ec"}`, goodClaims().String()), invalid, "no key for kid"},
		{"RSA key as EC", sign(rsaKey(), "RS256", `{"alg":"ES256","kid":"rsa"}`, goodClaims().String()), invalid, "no key for kid"},
		{"PS256 over RS256", sign(rsaKey(), "RS256", `{"alg":"PS256","kid":"rsa"}`, goodClaims().String()), invalid, "signature"},
		{"another's key", sign(otherKey(), "ES256", goodHeader().String(), goodClaims().String()), invalid, "signature"},
		{"another's key in the header", sign(otherKey(), "ES256", goodHeader().with("jwk", jwk("ec", "ES256", otherKey().Public())).String(), goodClaims().String()), invalid, "signature"},
		{"another's key, no kid", sign(otherKey(), "ES256", goodHeader().with("kid", absent).String(), goodClaims().String()), invalid, "signature"},
		{"kid unknown", head("kid", "nobody"), invalid, "no key for kid"},
		{"kid of other case", head("kid", "EC"), invalid, "no key for kid"},
		{"kid a path", head("kid", "../../dev/null"), invalid, "no key for kid"},
		{"kid long", head("kid", strings.Repeat("k", 5000)), invalid, "no key for kid"},
		{"kid empty", head("kid", ""), invalid, "no key for kid"},
		{"kid a number", head("kid", 1), invalid, "must be strings"},
		{"crit", head("crit", []string{"exp"}), invalid, "crit"},
		{"crit b64", head("crit", []string{"b64"}), invalid, "crit"},
		{"crit empty", head("crit", []string{}), invalid, "crit"},
		{"typ logout", head("typ", "logout+jwt"), invalid, "typ"},
		{"typ DPoP", head("typ", "dpop+jwt"), invalid, "typ"},
		{"typ ID-JAG", head("typ", "oauth-id-jag+jwt"), invalid, "typ"},
		{"typ introspection", head("typ", "token-introspection+jwt"), invalid, "typ"},
		{"typ a number", head("typ", 1), invalid, "must be strings"},
		{"ID token", untyped("at_hash", "x"), invalid, "ID token"},
		{"ID token, hybrid", untyped("c_hash", "x"), invalid, "ID token"},
		{"ID token, nonce", untyped("nonce", "x"), invalid, "ID token"},
		{"Keycloak ID token", untyped("typ", "ID"), invalid, "ID token"},
		{"Keycloak refresh token", untyped("typ", "Refresh"), invalid, "ID token"},
		{"Cognito ID token", untyped("token_use", "id"), invalid, "ID token"},
		{"DPoP-bound", claims("cnf", object{"jkt": "x"}), invalid, "cnf"},
		{"certificate-bound", claims("cnf", object{"x5t#S256": "x"}), invalid, "cnf"},

		{"iss missing", claims("iss", absent), unknown, "iss"},
		{"iss with a slash more", claims("iss", issuerURL+"/"), unknown, "iss"},
		{"iss of other case", claims("iss", strings.ToUpper(issuerURL)), unknown, "iss"},
		{"iss with a port", claims("iss", "https://idp.example:443/realms/acme"), unknown, "iss"},
		{"iss an array", claims("iss", []string{issuerURL}), unknown, "iss"},
		{"iss empty", claims("iss", ""), unknown, "iss"},
		{"iss of other spelling only", raw(goodHeader().String(), strings.Replace(goodClaims().String(), `"iss"`, `"Iss"`, 1)), unknown, "iss"},
		{"aud missing", claims("aud", absent), invalid, "aud"},
		{"aud null", claims("aud", nil), invalid, "aud"},
		{"aud wrong", claims("aud", "https://other.example"), invalid, "aud"},
		{"aud with a slash more", claims("aud", audience+"/"), invalid, "aud"},
		{"aud a prefix", claims("aud", "https://mcp.example.com"), invalid, "aud"},
		{"aud by user information", claims("aud", "https://mcp.example.com@evil.example/mcp"), invalid, "aud"},
		{"aud array without ours", claims("aud", []string{"a", "b"}), invalid, "aud"},
		{"aud array empty", claims("aud", []string{}), invalid, "aud"},
		{"aud array of arrays", claims("aud", []any{[]string{audience}}), invalid, "aud"},
		{"aud array with a number", claims("aud", []any{audience, 1}), invalid, "aud"},
		{"aud an object", claims("aud", object{audience: true}), invalid, "aud"},
		{"aud a list in a string", claims("aud", audience+" https://other.example"), invalid, "aud"},

		{"exp missing", claims("exp", absent), invalid, "exp"},
		{"exp null", claims("exp", nil), invalid, "exp"},
		{"exp past", claims("exp", now-31), invalid, "exp"},
		{"exp zero", claims("exp", 0), invalid, "exp"},
		{"exp negative", claims("exp", -1), invalid, "exp"},
		{"exp a string", claims("exp", fmt.Sprint(now+300)), invalid, "exp"},
		{"exp in milliseconds", claims("exp", (now+300)*1000), invalid, "exp"},
		{"exp endless", raw(goodHeader().String(), strings.Replace(goodClaims().String(), `"exp":`, `"exp":1e999,"x":`, 1)), invalid, "exp"},
		{"nbf future", claims("nbf", now+40), invalid, "nbf"},
		{"nbf a string", claims("nbf", "0"), invalid, "nbf"},
		{"iat future", claims("iat", now+40), invalid, "iat"},
		{"sub a number", claims("sub", 1), invalid, "sub"},
		{"sub long", claims("sub", strings.Repeat("s", 1025)), invalid, "sub"},
		{"client an object", claims("client_id", object{}), invalid, "client_id"},
		{"scope an object", claims("scope", object{"notes:read": true}), invalid, "scope"},
		{"scope a number", claims("scope", 1), invalid, "scope"},

		{"duplicate iss", raw(goodHeader().String(), `{"iss":"https://evil.example",`+goodClaims().String()[1:]), unknown, "duplicate"},
		{"duplicate scope", raw(goodHeader().String(), `{"scope":"notes:admin",`+goodClaims().String()[1:]), unknown, "duplicate"},
		{"duplicate by escape", raw(goodHeader().String(), `{"\u0073cope":"notes:admin",`+goodClaims().String()[1:]), unknown, "duplicate"},
		{"duplicate below", raw(goodHeader().String(), `{"a":{"b":1,"b":2},`+goodClaims().String()[1:]), unknown, "duplicate"},
		{"duplicate alg", raw(`{"alg":"none","alg":"ES256","kid":"ec"}`, goodClaims().String()), unknown, "duplicate"},
		{"payload of two values", raw(goodHeader().String(), goodClaims().String()+"{}"), unknown, ""},
		{"payload an array", raw(goodHeader().String(), "["+goodClaims().String()+"]"), unknown, "one JSON object"},
		{"payload empty", raw(goodHeader().String(), ""), unknown, ""},
		{"payload cut", raw(goodHeader().String(), goodClaims().String()[:20]), unknown, ""},
		{"payload not UTF-8", raw(goodHeader().String(), strings.Replace(goodClaims().String(), "alice", "al\xffce", 1)), unknown, "UTF-8"},
		{"header null", raw("null", goodClaims().String()), unknown, "one JSON object"},

		{"opaque", "dGhpcyBpcyBvcGFxdWU", unknown, "not a signed JWT"},
		{"opaque with dots", "a.b.c", unknown, ""},
		{"empty", "", unknown, ""},
		{"JWE", parts[0] + ".a.b.c.d", unknown, "not a signed JWT"},
		{"a part more", good + ".x", unknown, "not a signed JWT"},
		{"a dot more", good + ".", unknown, "not a signed JWT"},
		{"a part less", parts[0] + "." + parts[1], unknown, "not a signed JWT"},
		{"no signature", parts[0] + "." + parts[1] + ".", invalid, "signature"},
		{"secret key of its own", head("jwk", object{"kty": "oct", "k": "AAAA"}), invalid, "private"},
		{"signature cut", good[:len(good)-2], invalid, "signature"},
		{"signature zero", parts[0] + "." + parts[1] + "." + encode(strings.Repeat("\x00", 64)), invalid, "signature"},
		{"signature in DER", derSigned(), invalid, "signature"},
		{"signature of other claims", parts[0] + "." + encode(goodClaims().with("sub", "bob").String()) + "." + parts[2], invalid, "signature"},
		{"first bit flipped", flip(good, 2, 0, 0x80), invalid, "signature"},
		{"last bit flipped", flip(good, 2, -1, 1), invalid, "signature"},
		{"padding", good + "==", unknown, ""},
		{"spare bits of the signature", good[:len(good)-1] + sibling(good[len(good)-1]), unknown, ""},
		{"line end inside", good[:len(good)-2] + "\n" + good[len(good)-2:], unknown, ""},
		{"17 KiB", claims("fill", strings.Repeat("f", 13<<10)), invalid, "too long"},
	}
}

// sibling is another base64 digit with the same significant bits for a 64 byte
// signature, whose last digit has four spare ones.
func sibling(c byte) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(digits[strings.IndexByte(digits, c)^1])
}

func jsonB64(part string) ([]byte, error) {
	var raw []byte
	part = strings.NewReplacer("-", "+", "_", "/").Replace(part)
	err := json.Unmarshal([]byte(`"`+part+strings.Repeat("=", (4-len(part)%4)%4)+`"`), &raw)
	return raw, err
}

func derSigned() string {
	input := encode(goodHeader().String()) + "." + encode(goodClaims().String())
	digest := sha256.Sum256([]byte(input))
	return input + "." + encode(string(must(ecdsa.SignASN1(nil, ecKey(), digest[:]))))
}

func TestJWTRefuses(t *testing.T) {
	n := goodNetwork()
	v := newJWT(t, n)
	if err := v.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range hostileTokens() {
		t.Run(tt.name, func(t *testing.T) {
			id, err := verify(t, v, tt.token)
			if err == nil {
				t.Fatalf("accepted: %+v", id)
			}
			if err.Kind != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got kind %d, %v; want kind %d and %q", err.Kind, err, tt.kind, tt.want)
			}
			if len(tt.token) > 20 && strings.Contains(err.Error(), tt.token[len(tt.token)-20:]) {
				t.Errorf("the error holds part of the token: %v", err)
			}
		})
	}
	// The whole table, with its five or so unknown key ids, is worth the first fetch and two turns.
	if got := n.count(jwksURL); got != 3 {
		t.Errorf("%d fetches of the keys, want 3", got)
	}
}

func TestJWTRefusalsReachClientsAsInvalid(t *testing.T) {
	a := must(authenticate.New(authenticate.Options{Verifiers: []authenticate.Verifier{newJWT(t, goodNetwork())}}))
	for _, tt := range hostileTokens() {
		if tt.token == "" || strings.ContainsAny(tt.token, "\n") || len(tt.token) > authenticate.MaxToken {
			continue // Bearer refuses them
		}
		_, err := a.Authenticate(post("http://gw.example/mcp", "Authorization", "Bearer "+tt.token))
		if err == nil || err.Kind != authenticate.Invalid {
			t.Errorf("%s: got %+v, want Invalid", tt.name, err)
		}
	}
}

// Everything that needs no key is refused without asking for one.
func TestJWTRefusesBeforeKeys(t *testing.T) {
	for _, tt := range hostileTokens() {
		n := newNetwork()
		_, err := verify(t, newJWT(t, n), tt.token)
		needsKey := strings.Contains(tt.want, "signature") || tt.want == "private" || strings.Contains(tt.want, "no key")
		if asked := n.count(jwksURL) > 0; asked != needsKey {
			t.Errorf("%s: asked for keys: %v, want %v", tt.name, asked, needsKey)
		}
		if needsKey && err.Kind != authenticate.Unavailable {
			t.Errorf("%s: got kind %d without keys, want Unavailable", tt.name, err.Kind)
		}
	}
}

func TestJWTClaims(t *testing.T) {
	tests := []struct {
		name   string
		config func(*authenticate.JWTConfig)
		claims object
		want   authenticate.Identity
	}{
		{"scp array", nil, object{"scope": absent, "scp": []string{"a", "b c", "a"}}, authenticate.Identity{Scopes: scope.Set{"a", "b", "c"}}},
		{"scope before scp", nil, object{"scp": []string{"x"}, "scope": "a"}, authenticate.Identity{Scopes: scope.Set{"a"}}},
		{"null scope is absent", nil, object{"scp": "x", "scope": nil}, authenticate.Identity{Scopes: scope.Set{"x"}}},
		{"empty scope is present", nil, object{"scp": "x", "scope": ""}, authenticate.Identity{}},
		{"permissions", func(c *authenticate.JWTConfig) { c.ScopeClaims = []string{"permissions", "scope"} },
			object{"permissions": []string{"p"}}, authenticate.Identity{Scopes: scope.Set{"p"}}},
		{"second of the configured", func(c *authenticate.JWTConfig) { c.ScopeClaims = []string{"permissions", "scope"} },
			object{"scope": "a"}, authenticate.Identity{Scopes: scope.Set{"a"}}},
		{"prefix stripped where it stands", func(c *authenticate.JWTConfig) { c.ScopePrefix = "api://x/" },
			object{"scope": "api://x/a b openid api://y/c"}, authenticate.Identity{Scopes: scope.Set{"a", "b", "openid", "api://y/c"}}},
		{"nothing behind the prefix", func(c *authenticate.JWTConfig) { c.ScopePrefix = "p/" }, object{"scope": "p/ a"}, authenticate.Identity{Scopes: scope.Set{"a"}}},
		{"no scope tokens dropped", nil, object{"scope": "a  \"b\" c\\d \té e"}, authenticate.Identity{Scopes: scope.Set{"a", "e"}}},
		{"azp", nil, object{"client_id": absent, "azp": "party"}, authenticate.Identity{ClientID: "party"}},
		{"client_id before azp", nil, object{"azp": "party"}, authenticate.Identity{ClientID: "app"}},
		{"appid of Entra ID", nil, object{"client_id": absent, "appid": "entra"}, authenticate.Identity{ClientID: "entra"}},
		{"cid of Okta", nil, object{"client_id": absent, "cid": "okta"}, authenticate.Identity{ClientID: "okta"}},
		{"azp before appid and cid", nil, object{"client_id": absent, "azp": "party", "appid": "x", "cid": "y"}, authenticate.Identity{ClientID: "party"}},
		{"cid of another kind", nil, object{"cid": 7}, authenticate.Identity{ClientID: "app"}},
		{"no sub", nil, object{"sub": absent}, authenticate.Identity{Subject: "app"}},
		{"other subject", func(c *authenticate.JWTConfig) { c.SubjectClaim = "email" }, object{"email": "a@b"}, authenticate.Identity{Subject: "a@b"}},
		{"other subject missing", func(c *authenticate.JWTConfig) { c.SubjectClaim = "email" }, object{}, authenticate.Identity{Subject: "app"}},
		{"a job", func(c *authenticate.JWTConfig) { c.NonInteractiveClients = []string{"app"} }, object{}, authenticate.Identity{Final: true}},
		{"subject by escape", nil, object{"sub": "a\"\n"}, authenticate.Identity{Subject: "a\"\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newJWT(t, goodNetwork(), func(c *authenticate.JWTConfig) {
				if tt.config != nil {
					tt.config(c)
				}
			})
			claims := goodClaims()
			for name, value := range tt.claims {
				claims = claims.with(name, value)
			}
			id, err := verify(t, v, sign(ecKey(), "ES256", goodHeader().String(), claims.String()))
			if err != nil {
				t.Fatal(err)
			}
			got := authenticate.Identity{Scopes: id.Scopes, Final: id.Final}
			if tt.want.Scopes == nil && tt.claims["scope"] == nil {
				got.Scopes = nil
			}
			if tt.want.Subject != "" {
				got.Subject = id.Subject
			}
			if tt.want.ClientID != "" {
				got.ClientID = id.ClientID
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Callers without a name share nothing.
func TestNamelessTokens(t *testing.T) {
	v := newJWT(t, goodNetwork())
	nameless := goodClaims().with("sub", absent).with("client_id", absent)
	a, _ := verify(t, v, sign(ecKey(), "ES256", goodHeader().String(), nameless.String()))
	b, _ := verify(t, v, sign(ecKey(), "ES256", goodHeader().String(), nameless.with("jti", "2").String()))
	if a.Subject == "" || a.Subject == b.Subject {
		t.Errorf("subjects %q and %q", a.Subject, b.Subject)
	}
}

func TestJWTKeepsClaims(t *testing.T) {
	v := newJWT(t, goodNetwork(), func(c *authenticate.JWTConfig) { c.KeepClaims = true })
	claims := goodClaims().with("tenant", "acme").String()
	id, err := verify(t, v, sign(ecKey(), "ES256", goodHeader().String(), claims))
	if err != nil || string(id.Claims) != claims {
		t.Errorf("claims %s, %v", id.Claims, err)
	}
}

func TestRequireAccessTokenType(t *testing.T) {
	v := newJWT(t, goodNetwork(), func(c *authenticate.JWTConfig) { c.RequireAccessTokenType = true })
	for typ, want := range map[any]bool{"at+jwt": true, "application/at+jwt": true, "JWT": false, absent: false, "": false} {
		_, err := verify(t, v, sign(ecKey(), "ES256", goodHeader().with("typ", typ).String(), goodClaims().String()))
		if (err == nil) != want {
			t.Errorf("typ %v: %v", typ, err)
		}
	}
}

func TestJWTEndsInTime(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		token := goodToken()
		time.Sleep(329 * time.Second)
		if _, err := verify(t, v, token); err != nil {
			t.Errorf("within exp plus skew: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := verify(t, v, token); err == nil {
			t.Error("accepted after exp plus skew")
		}
	})
}

func TestNewJWTMistakes(t *testing.T) {
	_, err := authenticate.NewJWT(authenticate.JWTConfig{
		Issuer: "http://idp.example", Audiences: []string{""}, Algorithms: []string{"HS256", "none", "ES256", "XX"},
		ClockSkew: time.Hour, ScopeClaims: []string{"scope", ""}, ScopePrefix: "a b", Grantable: []string{"a", "*", "a*b", ""},
		Keys: newKeySet(t, newNetwork()),
	})
	var list problem.List
	if !errors.As(err, &list) {
		t.Fatalf("got %v, want a list", err)
	}
	var paths []string
	for _, p := range list {
		paths = append(paths, p.Path)
	}
	want := []string{"issuer", "audiences[0]", "scope_claims[1]", "scope_prefix", "grantable[2]", "grantable[3]", "clock_skew",
		"algorithms[0]", "algorithms[1]", "algorithms[3]", "keys"}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error(diff)
	}
	for _, c := range []authenticate.JWTConfig{
		{Audiences: []string{"a"}}, {Issuer: issuerURL}, {Issuer: issuerURL + "?a", Audiences: []string{"a"}},
		{Issuer: issuerURL + "#", Audiences: []string{"a"}}, {Issuer: "https://u:hush@idp.example", Audiences: []string{"a"}},
		{Issuer: issuerURL, Audiences: []string{"a"}, ClockSkew: -1},
	} {
		if _, err := authenticate.NewJWT(c); err == nil {
			t.Errorf("%+v accepted", c)
		} else if strings.Contains(err.Error(), "hush") {
			t.Errorf("%v tells the password", err)
		}
	}
	if v, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: issuerURL, Audiences: []string{"a"}}); err != nil || v.Keys().Issuer() != issuerURL || v.Issuer() != issuerURL {
		t.Errorf("the smallest configuration: %v", err)
	}
}

// Nothing is accepted that the key has not signed: whatever bytes the token is
// made of, an accepted one has the very signing input of a seed that the key did
// sign, and go-jose agrees on its payload.
func FuzzJWT(f *testing.F) {
	n := goodNetwork()
	v := newJWT(f, n)
	far := goodClaims().with("exp", time.Now().Unix()+1e6)
	signed := map[string]bool{}
	for _, token := range []string{
		sign(ecKey(), "ES256", goodHeader().String(), far.String()),
		sign(rsaKey(), "RS256", `{"alg":"RS256","kid":"rsa"}`, far.String()),
		sign(edKey(), "EdDSA", `{"alg":"EdDSA","kid":"ed"}`, far.with("aud", []string{audience}).String()),
	} {
		signed[token[:strings.LastIndexByte(token, '.')]] = true
		f.Add(token)
	}
	for _, tt := range hostileTokens() {
		f.Add(tt.token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := verify(t, v, token)
		if err != nil {
			if err.Kind == authenticate.Unavailable {
				t.Fatalf("unavailable: %v", err)
			}
			return
		}
		if !signed[token[:strings.LastIndexByte(token, '.')]] {
			// hostileTokens is signed anew in each worker, so its good part is not
			// in the table; then the key must confirm it.
			jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{"ES256", "RS256", "PS256", "EdDSA"})
			if err != nil {
				t.Fatalf("accepted what go-jose does not read: %v", err)
			}
			key := map[string]any{"ec": ecKey().Public(), "rsa": rsaKey().Public(), "ed": edKey().Public(), "": ecKey().Public()}[jws.Signatures[0].Header.KeyID]
			if _, err := jws.Verify(key); err != nil {
				t.Fatalf("accepted what no key has signed: %q", token)
			}
		}
		if id.Issuer != issuerURL || id.TokenHash != sha256.Sum256([]byte(token)) {
			t.Fatalf("identity %+v", id)
		}
	})
}

// FuzzKeyDocument: whatever a key document holds, the tokens of its readable
// keys' owner are all that is accepted, and reading it ends.
func FuzzKeyDocument(f *testing.F) {
	good := must(json.Marshal(jose.JSONWebKeySet{Keys: goodKeys()}))
	for _, seed := range [][]byte{good, []byte(`{}`), []byte(`{"keys":[]}`), []byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"ec"}]}`),
		bytes.Replace(good, []byte(`"sig"`), []byte(`"enc"`), 1), []byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":"","kid":"ec"}]}`),
		[]byte(`{"keys":null}`), []byte(`[]`)} {
		f.Add(seed)
	}
	forged := sign(otherKey(), "ES256", goodHeader().String(), goodClaims().with("exp", time.Now().Unix()+1e6).String())
	f.Fuzz(func(t *testing.T, document []byte) {
		n := newNetwork()
		n.on(jwksURL, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write(document)
		})
		if id, err := verify(t, newJWT(t, n), forged); err == nil {
			t.Fatalf("accepted %+v", id)
		}
	})
}
