package doctor

import (
	"net/url"
	"slices"
	"strings"
)

// provider is a known identity provider: how to know it, what it lacks for MCP
// clients, and what in stile.yaml makes up for it (clients-and-servers as of
// November 2026).
type provider struct {
	name  string
	known func(m *issuerMetadata, u *url.URL) bool
	lacks string
	yaml  string
}

func hostEnds(suffixes ...string) func(*issuerMetadata, *url.URL) bool {
	return func(_ *issuerMetadata, u *url.URL) bool {
		host := strings.ToLower(u.Hostname())
		return slices.ContainsFunc(suffixes, func(s string) bool { return host == s || strings.HasSuffix(host, "."+s) })
	}
}

var providers = []provider{
	{"Entra ID", hostEnds("microsoftonline.com", "sts.windows.net", "ciamlogin.com"),
		"no registration of clients (neither CIMD nor DCR), no OAuth metadata but OpenID's, tokens for the application id instead of the endpoint, scopes named api://app/x, and AADSTS9010010 when resource and scope disagree",
		"issuers: [{issuer: ISSUER, audiences: [APPLICATION-ID], scope_claims: [scp, roles], scope_prefix: \"api://APPLICATION-ID/\", subject_claim: oid}]"},
	{"Google", hostEnds("accounts.google.com", "googleapis.com"),
		"no registration of clients, no resource indicators, opaque access tokens that only Google can read, and no scopes of your own",
		"leave issuers: out and use the embedded authorization server with login: {issuer: https://accounts.google.com, client_id: ID, client_secret: SECRET}"},
	{"GitHub", hostEnds("github.com"),
		"no OAuth metadata, no registration of clients, no resource indicators, opaque tokens",
		"leave issuers: out and use the embedded authorization server"},
	{"Cognito", hostEnds("amazoncognito.com", "amazonaws.com"),
		"no registration of clients, OpenID metadata only, access tokens without aud (they have client_id), scopes named server/scope",
		"issuers: [{issuer: ISSUER, scope_prefix: \"SERVER/\"}] with resource binding switched on in managed login, so that tokens carry aud"},
	{"Auth0", func(m *issuerMetadata, u *url.URL) bool {
		return hostEnds("auth0.com")(m, u) || strings.HasSuffix(m.Authorization, "/authorize") && strings.Contains(m.Registration, "/oidc/register")
	},
		"DCR and CIMD are off until switched on; without the resource-parameter compatibility profile the token is opaque; the issuer ends in a slash, which counts",
		"issuers: [{issuer: \"ISSUER-WITH-ITS-SLASH\", scope_claims: [permissions, scope]}]"},
	{"Okta", hostEnds("okta.com", "oktapreview.com", "okta-emea.com"),
		"registration of clients needs an administrator's token, the OAuth metadata is appended instead of inserted, one audience per authorization server, scp is an array",
		"issuers: [{issuer: ISSUER, audiences: [AUDIENCE], scope_claims: [scp]}] and a client registered beforehand"},
	{"Keycloak", func(_ *issuerMetadata, u *url.URL) bool { return strings.Contains(u.Path, "/realms/") },
		"tokens often have no aud until an audience mapper is added; registration of clients is bound to trusted hosts",
		"issuers: [{issuer: ISSUER}] and, in Keycloak, an audience mapper with the endpoint's URL on the client scopes"},
	{"Zitadel", func(m *issuerMetadata, u *url.URL) bool {
		return hostEnds("zitadel.cloud")(m, u) || strings.HasSuffix(m.Token, "/oauth/v2/token") && strings.HasSuffix(m.Authorization, "/oauth/v2/authorize")
	},
		"registration of clients is off until switched on; the audience comes from a reserved scope",
		"issuers: [{issuer: ISSUER, audiences: [PROJECT-ID]}] and clients that ask for urn:zitadel:iam:org:project:id:PROJECT-ID:aud"},
	{"Ory Hydra", func(m *issuerMetadata, u *url.URL) bool {
		return hostEnds("oryapis.com")(m, u) || strings.HasSuffix(m.Authorization, "/oauth2/auth") && strings.HasSuffix(m.Token, "/oauth2/token")
	},
		"registration of clients is off until switched on; tokens are opaque unless JWTs are chosen; scp is an array",
		"issuers: [{issuer: ISSUER, scope_claims: [scp, scope], introspection: {url: ADMIN-URL/admin/oauth2/introspect}}]"},
}

// recognise names the provider behind an issuer, if it is a known one.
func recognise(m *issuerMetadata) *provider {
	u, err := url.Parse(m.asked)
	if err != nil {
		return nil
	}
	for i := range providers {
		if providers[i].known(m, u) {
			return &providers[i]
		}
	}
	return nil
}

// judgeProvider says what a known provider lacks, and what makes up for it.
func (v *visit) judgeProvider(m *issuerMetadata) {
	p := recognise(m)
	if p == nil {
		return
	}
	v.report.Provider = p.name
	v.find("provider", p.name+": "+p.lacks+". In stile.yaml: "+strings.ReplaceAll(p.yaml, "ISSUER", m.asked))
}
