package provider

import (
	"net/url"
	"strings"
)

// profiles are tried in this order.
var profiles = []Profile{
	{
		Name: "Keycloak",
		known: func(m Metadata, u *url.URL) bool {
			return strings.Contains(u.Path, "/realms/") || strings.Contains(m.Token, "/protocol/openid-connect/token")
		},
		Beyond: []string{
			"tokens have no aud, or that of another client, until an audience mapper is added",
			"resource is ignored unless the experimental resource indicators are on",
			"DCR is bound to trusted hosts and scopes by client registration policies; CIMD is experimental",
			"roles stand in realm_access and resource_access, not in scope",
		},
		Setup: "Add an audience mapper with the endpoint's URL to the client scopes, and your hosts to the policy Trusted Hosts.",
		config: `issuers:
  - issuer: ISSUER
`,
	},
	{
		Name: "Auth0",
		known: func(m Metadata, u *url.URL) bool {
			return host(u, "auth0.com") || strings.HasSuffix(m.Registration, "/oidc/register") && ends(m, "/authorize", "/oauth/token")
		},
		Beyond: []string{
			"resource is ignored until the resource parameter compatibility profile is on; tokens are opaque then",
			"DCR answers with an error until it is switched on, although the document names it; CIMD is in early access",
			"RBAC puts what was granted into permissions, not into scope",
			"scopes_supported lists OpenID scopes only, which is all that Codex and Gemini CLI ask for",
			"the issuer ends in a slash, which counts",
		},
		Setup: "Switch on the resource parameter compatibility profile and OIDC dynamic registration, and make an API whose identifier is the endpoint's URL.",
		config: `issuers:
  - issuer: ISSUER
    scope_claims: [permissions, scope]
    algorithms: [RS256]
`,
	},
	{
		Name: "Okta",
		known: func(m Metadata, u *url.URL) bool {
			return host(u, "okta.com", "oktapreview.com", "okta-emea.com") || ends(m, "/v1/authorize", "/v1/token")
		},
		Beyond: []string{
			"DCR needs an administrator's token, although the document names it",
			"aud is fixed for each authorization server; resource is ignored",
			"a custom authorization server has its RFC 8414 document appended to the issuer, not inserted",
			"scp is an array",
		},
		Setup: "Make a web application that is sent back to public_url and /authserver/provider/callback, with a groups claim.",
		config: `login:
  issuer: ISSUER
  client_id: CLIENT-ID
  client_secret: "${LOGIN_SECRET}"
  scopes: [openid, email, profile, groups]
  allow:
    groups: [GROUP]
`,
		direct: `issuers:
  - issuer: ISSUER
    audiences: [AUDIENCE]
    scope_claims: [scp]
    algorithms: [RS256]
`,
	},
	{
		Name: "Entra ID",
		known: func(m Metadata, u *url.URL) bool {
			return host(u, "microsoftonline.com", "sts.windows.net", "ciamlogin.com") || ends(m, "/oauth2/v2.0/authorize", "/oauth2/v2.0/token")
		},
		Beyond: []string{
			"resource beside a scope of another resource is refused: AADSTS9010010",
			"aud is the application's id or its App ID URI, not the endpoint's URL",
			"scopes are asked for as api://APPLICATION-ID/name, and stand in scp without it; roles in roles",
			"a refresh has to repeat the scope",
		},
		Setup: "Register a web application that is sent back to public_url and /authserver/provider/callback, with a groups claim in its ID token. Entra verifies no addresses, so that people are let in by group.",
		config: `login:
  issuer: ISSUER
  client_id: APPLICATION-ID
  client_secret: "${LOGIN_SECRET}"
  allow:
    groups: [GROUP-ID]
`,
		direct: `issuers:
  - issuer: ISSUER
    audiences: [APPLICATION-ID, "api://APPLICATION-ID"]
    scope_claims: [scp, roles]
    scope_prefix: "api://APPLICATION-ID/"
    subject_claim: oid
    algorithms: [RS256]
`,
	},
	{
		Name: "Google",
		known: func(m Metadata, u *url.URL) bool {
			return host(u, "accounts.google.com") || strings.HasSuffix(m.Authorization, "/o/oauth2/v2/auth")
		},
		Beyond: []string{
			"access tokens are opaque, and for Google's own services",
			"resource is ignored",
			"you cannot have scopes of your own",
		},
		Setup: "Make an OAuth client for a web application that is sent back to public_url and /authserver/provider/callback.",
		config: `login:
  issuer: ISSUER
  client_id: CLIENT-ID
  client_secret: "${LOGIN_SECRET}"
  allow:
    emails: ["@DOMAIN"]
`,
	},
	{
		Name: "GitHub",
		known: func(m Metadata, u *url.URL) bool {
			return host(u, "github.com") || strings.HasSuffix(u.Path, "/login/oauth") || ends(m, "/login/oauth/authorize", "/login/oauth/access_token")
		},
		Beyond: []string{
			"access tokens are opaque, and for GitHub's own services",
			"resource is ignored",
			"it is no OpenID provider: it gives out no ID tokens to sign in with",
			"you cannot have scopes of your own",
		},
		Setup: "People get accounts in Stile (stile user add NAME). What the server behind it needs of GitHub stands in its headers or env.",
		config: `authserver:
  enabled: true
`,
	},
	{
		Name: "Cognito",
		known: func(m Metadata, u *url.URL) bool {
			return host(u, "amazonaws.com", "amazoncognito.com") || strings.HasSuffix(m.UserInfo, "/oauth2/userInfo")
		},
		Beyond: []string{
			"access tokens have client_id and no aud, unless resource binding is on in managed login",
			"scopes are named SERVER/name",
		},
		Setup: "Make an app client with a secret that is sent back to public_url and /authserver/provider/callback.",
		config: `login:
  issuer: ISSUER
  client_id: CLIENT-ID
  client_secret: "${LOGIN_SECRET}"
  groups_claim: "cognito:groups"
  allow:
    groups: [GROUP]
`,
		direct: `issuers:
  - issuer: ISSUER
    scope_prefix: "SERVER/"
    algorithms: [RS256]
    # For app clients of this server only, where resource binding is off:
    # dangerously_no_audience_clients: [CLIENT-ID]
`,
	},
	{
		Name: "Zitadel",
		known: func(m Metadata, u *url.URL) bool {
			return host(u, "zitadel.cloud") || ends(m, "/oauth/v2/authorize", "/oauth/v2/token")
		},
		Beyond: []string{
			"aud holds project and client ids; clients would have to ask for urn:zitadel:iam:org:project:id:PROJECT-ID:aud",
			"access tokens are opaque until the application asks for JWTs",
			"what people may do stands in a claim of roles, not in scope",
		},
		Setup: "Make a web application that is sent back to public_url and /authserver/provider/callback.",
		config: `login:
  issuer: ISSUER
  client_id: CLIENT-ID
  client_secret: "${LOGIN_SECRET}"
  allow:
    emails: ["@DOMAIN"]
`,
		direct: `issuers:
  - issuer: ISSUER
    audiences: ["PROJECT-ID"]
    algorithms: [RS256]
`,
	},
	{
		Name: "Ory Hydra",
		known: func(m Metadata, u *url.URL) bool {
			return host(u, "oryapis.com") || ends(m, "/oauth2/auth", "/oauth2/token")
		},
		Beyond: []string{
			"access tokens are opaque unless the strategy jwt is chosen; scp is an array then",
			"aud is what each client is allowed to ask for by audience; resource is ignored",
			"DCR is off until switched on",
		},
		Setup: "Switch dynamic client registration on (oidc.dynamic_client_registration.enabled), with the endpoint's URL as audience of the clients.",
		config: `issuers:
  - issuer: ISSUER
    scope_claims: [scp, scope]
    introspection:
      url: https://ADMIN-HOST/admin/oauth2/introspect
      client_id: stile
      client_secret: "${INTROSPECTION_SECRET}"
`,
	},
}
