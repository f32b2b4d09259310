package authenticate_test

import (
	"testing"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/stiletest"
)

// An issuer over real connections, its metadata at each of the four places.
func TestRealIssuer(t *testing.T) {
	for _, form := range []string{stiletest.DiscoveryOAuthInserted, stiletest.DiscoveryOIDCInserted,
		stiletest.DiscoveryOIDCAppended, stiletest.DiscoveryOAuthAppended} {
		t.Run(form, func(t *testing.T) {
			issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Path: "/realms/acme", Discovery: []string{form}})
			v, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: issuer.URL(), Audiences: []string{audience}})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Keys().Close()
			if _, err := verify(t, v, issuer.Token(stiletest.Claims{Audience: []string{audience}, Scope: "a"})); err != nil {
				t.Fatal(err)
			}
			issuer.Rotate()
			if _, err := verify(t, v, issuer.Token(stiletest.Claims{Audience: []string{audience}, Scope: "a"})); err != nil {
				t.Errorf("after rotation: %v", err)
			}
			if len(v.Keys().Metadata()) == 0 {
				t.Error("no metadata")
			}
		})
	}
}

func TestRealIntrospection(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Opaque: true})
	us := stiletest.ResourceServer()
	v, err := authenticate.NewIntrospection(authenticate.IntrospectionConfig{Issuer: issuer.URL(), Audiences: []string{audience},
		URL: issuer.EndpointURL(stiletest.EndpointIntrospect), ClientID: us.ID, ClientSecret: us.Secret})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	token := issuer.Token(stiletest.Claims{Audience: []string{audience}, Scope: "a b"})
	id, refusal := verify(t, v, token)
	if refusal != nil || id.Subject != "alice" || len(id.Scopes) != 2 {
		t.Fatalf("got %+v, %v", id, refusal)
	}
	issuer.Revoke(token)
	if _, err := verify(t, v, token); err == nil || err.Kind != authenticate.Unknown {
		t.Errorf("revoked: %v", err)
	}
	issuer.Drop(true)
	if _, err := verify(t, v, token); err == nil || err.Kind != authenticate.Unavailable {
		t.Errorf("cut off: %v", err)
	}
}
