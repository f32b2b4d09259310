package main

// Login is an OpenID provider, such as a company's. Register Stile there as a web
// application that is sent back to public_url and /authserver/provider/callback.
type Login struct {
	// The provider's issuer identifier: https, or http on loopback. Required.
	Issuer string `yaml:"issuer"`
	// The client that Stile is there. Required.
	ClientID string `yaml:"client_id"`
	// Its secret, best given as "${NAME}" or "file:PATH". Default: none, for a
	// public client.
	ClientSecret string `yaml:"client_secret" secret:"true"`
	// Who may sign in. Required.
	Allow LoginAllow `yaml:"allow"`
	// The scopes that members of a group may grant, with spaces between them. A
	// person may grant those of all their groups. Default: everybody may grant
	// every scope.
	Groups map[string]string `yaml:"groups"`
	// The claim that holds a person's groups, of the ID token or userinfo. Default
	// groups.
	GroupsClaim string `yaml:"groups_claim"`
	// The scopes that the provider is asked for; some give groups only for one.
	// Default [openid, email, profile].
	Scopes []string `yaml:"scopes"`
	// Local accounts may sign in too. Default false.
	Accounts bool `yaml:"accounts"`
}

// LoginAllow is who of all the people that the provider knows may sign in: whoever
// is on one of the lists. At least one of them must be there.
type LoginAllow struct {
	// Their addresses, in any case; "@example.com" is everybody of that domain.
	// Only addresses that the provider says are verified count.
	Emails []string `yaml:"emails"`
	// The groups whose members may.
	Groups []string `yaml:"groups"`
}

// AuthServer says what the embedded authorization server does.
type AuthServer struct {
	// Whether it issues tokens. Default: true where there are neither issuers nor
	// api_keys, or login but no issuers; else false.
	Enabled *bool `yaml:"enabled"`
	// Turn dynamic client registration (RFC 7591) off. Clients with a metadata
	// document, and those below, stay. Default false, since most clients of today
	// register themselves.
	NoRegistration bool `yaml:"no_registration"`
	// Grant a refresh also while a challenge waits. By default the first refresh
	// after a 403 is refused once, so that clients which refresh before they ask
	// the person step up. Default false.
	NoRefusedRefresh bool `yaml:"no_refused_refresh"`
	// The schemes, such as "myapp", that redirect URIs of programs may have besides
	// those with a dot in them. Default: those of well-known clients, such as
	// vscode and cursor.
	Schemes []string `yaml:"schemes"`
	// Clients that are registered here, in the file.
	Clients []AuthClient `yaml:"clients"`
}

// AuthClient is a client of the embedded authorization server.
type AuthClient struct {
	// Its client_id. Required.
	ID string `yaml:"id"`
	// What people are told it is called. Default: the id.
	Name string `yaml:"name"`
	// The SHA-256 of its secret in hex, as for api_keys. Default: none, a public
	// client.
	SecretSHA256 string `yaml:"secret_sha256" secret:"true"`
	// Where answers may go.
	RedirectURIs []string `yaml:"redirect_uris"`
	// The scopes it may have for itself, without a person (client_credentials), with
	// spaces between them. Default: none.
	Scopes string `yaml:"scopes"`
	// It may ask about tokens (RFC 7662). Default false.
	Introspect bool `yaml:"introspect"`
}
