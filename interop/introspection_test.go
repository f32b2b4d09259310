package interop_test

import "testing"

// TestOpaqueTokens: the same step-up where the issuer's tokens say nothing and
// Stile has to ask for each at the issuer's introspection endpoint (RFC 7662).
func TestOpaqueTokens(t *testing.T) {
	as := startIssuer(t, notesScopes, "OPAQUE=1")
	introspection := "introspection:\n" +
		"  url: " + as.url + "/token/introspection\n" +
		"  client_id: stile\n" +
		"  client_secret: interop-secret"
	for _, era := range []string{era2025, era2026} {
		t.Run(era, func(t *testing.T) {
			before := as.log(t)
			stepUp(t, as, introspection, goFlow, era, operations[0])
			if as.since(t, before).Introspections == 0 {
				t.Error("the issuer was never asked about a token")
			}
		})
	}
}
