package stiletest_test

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/stile-mcp/stile/stiletest"
)

// decode reads header and payload of a JWT without verifying it.
func decode(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", token)
	}
	for n, out := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[n])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, out); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

const audience = "https://mcp.example.com/mcp"

func TestGoodTokens(t *testing.T) {
	for _, algorithm := range []string{"ES256", "RS256", "PS256", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Algorithm: algorithm, Audience: []string{audience}})
			token := issuer.Token(stiletest.Claims{Scope: "a b", Extra: map[string]any{"tenant": "acme"}})
			var claims jwt.Claims
			var all map[string]any
			if err := verify(issuer, token, audience, &claims, &struct {
				*jwt.Claims
			}{&claims}); err != nil {
				t.Fatal(err)
			}
			_, all = decode(t, token)
			want := map[string]any{"iss": issuer.URL(), "sub": "alice", "client_id": "stiletest", "scope": "a b", "aud": audience, "tenant": "acme"}
			for name, value := range want {
				if all[name] != value {
					t.Errorf("%s is %v, want %v", name, all[name], value)
				}
			}
			if all["jti"] == "" || claims.Expiry.Time().Sub(claims.IssuedAt.Time()) != 5*time.Minute {
				t.Errorf("jti %v, iat %v, exp %v", all["jti"], claims.IssuedAt, claims.Expiry)
			}
		})
	}
}

// TestBadTokens: each is refused by a strict verifier, for the reason it was
// made for.
func TestBadTokens(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Audience: []string{audience}})
	other := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Audience: []string{audience}})
	now := time.Now()
	tests := []struct{ name, token, want string }{
		{"expired", issuer.Token(stiletest.Claims{Expiry: now.Add(-time.Minute)}), "expired"},
		{"not yet", issuer.Token(stiletest.Claims{NotBefore: now.Add(time.Hour)}), "not valid yet"},
		{"no exp", issuer.Token(stiletest.Claims{Omit: []string{"exp"}}), "no exp"},
		{"issuer", issuer.Token(stiletest.Claims{Issuer: "https://evil.example"}), "issuer"},
		{"audience", issuer.Token(stiletest.Claims{Audience: []string{"https://other.example", "https://third.example"}}), "audience"},
		{"no audience", issuer.Token(stiletest.Claims{Omit: []string{"aud"}}), "audience"},
		{"typ", issuer.Token(stiletest.Claims{Typ: "JWT"}), "typ JWT"},
		{"no typ", issuer.Token(stiletest.Claims{Typ: "-"}), "typ <nil>"},
		{"none", issuer.Token(stiletest.Claims{Algorithm: "none"}), "unexpected signature algorithm"},
		{"HS256", issuer.Token(stiletest.Claims{Algorithm: "HS256"}), "unexpected signature algorithm"},
		{"alg of another kind", issuer.Token(stiletest.Claims{Algorithm: "RS256"}), ""},
		{"kid", issuer.Token(stiletest.Claims{Kid: "unknown"}), "JWK"},
		{"kid of another's key", issuer.Token(stiletest.Claims{Kid: other.KeyID()}), "JWK"},
		{"key of another", other.Token(stiletest.Claims{Issuer: issuer.URL(), Kid: issuer.KeyID()}), "cryptographic"},
		{"duplicate claims", issuer.RawToken(nil, []byte(`{"scope":"a","scope":"b"}`)), "duplicate"},
		{"no JSON", issuer.RawToken(nil, []byte(`{`)), ""},
		{"array for header", issuer.RawToken([]byte(`[]`), []byte(`{}`)), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var claims struct {
				jwt.Claims
				Scope string `json:"scope"`
			}
			err := verify(issuer, test.token, audience, &claims.Claims, &claims)
			if err == nil {
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("refused with %q, want %q", err, test.want)
			}
		})
	}
}

// TestBadTokenBytes looks at what no verifier could tell apart.
func TestBadTokenBytes(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	none := issuer.Token(stiletest.Claims{Algorithm: "none"})
	if header, _ := decode(t, none); header["alg"] != "none" || !strings.HasSuffix(none, ".") {
		t.Errorf("alg none: %v %s", header, none)
	}
	hs := issuer.Token(stiletest.Claims{Algorithm: "HS256"})
	dot := strings.LastIndex(hs, ".")
	mac := hmac.New(sha256.New, issuer.PublicKeyPEM())
	mac.Write([]byte(hs[:dot]))
	if want := base64.RawURLEncoding.EncodeToString(mac.Sum(nil)); hs[dot+1:] != want {
		t.Error("HS256 is not keyed with the public key")
	}
	payload := `{"sub":"a" , "sub":"b"}`
	raw := issuer.RawToken([]byte(`{"alg":"ES256","alg":"none"}`), []byte(payload))
	if got, _ := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1]); string(got) != payload {
		t.Errorf("payload %s, want the very bytes", got)
	}
	if opaque := issuer.Token(stiletest.Claims{Opaque: true}); strings.Contains(opaque, ".") {
		t.Errorf("%q is not opaque", opaque)
	}
}

func TestUnknownAlgorithmPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("HS256 was accepted as an issuer's algorithm")
		}
	}()
	stiletest.NewIssuer(stiletest.IssuerOptions{Algorithm: "HS256"})
}

// FuzzRawToken: whatever the bytes are, they are signed as they stand.
func FuzzRawToken(f *testing.F) {
	issuer := stiletest.NewIssuer(stiletest.IssuerOptions{URL: "https://as.example"})
	block, _ := pem.Decode(issuer.PublicKeyPEM())
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"alg":"ES256"}`), []byte(`{"scope":"a","scope":"b"}`))
	f.Add([]byte(`{"alg":"none","alg":"ES256"}`), []byte(`{`))
	f.Add([]byte{}, []byte{0xff, 0})
	f.Fuzz(func(t *testing.T, header, payload []byte) {
		parts := strings.Split(issuer.RawToken(header, payload), ".")
		if len(parts) != 3 {
			t.Fatalf("%d parts", len(parts))
		}
		var raw [3][]byte
		for n, part := range parts {
			var err error
			if raw[n], err = base64.RawURLEncoding.DecodeString(part); err != nil {
				t.Fatal(err)
			}
		}
		if header != nil && string(raw[0]) != string(header) || string(raw[1]) != string(payload) {
			t.Errorf("%q . %q became %q . %q", header, payload, raw[0], raw[1])
		}
		digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		r, s := new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])
		if !ecdsa.Verify(public.(*ecdsa.PublicKey), digest[:], r, s) {
			t.Error("the signature does not verify")
		}
	})
}
