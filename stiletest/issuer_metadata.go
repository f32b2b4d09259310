package stiletest

import (
	"slices"
	"strings"
)

// Well-known paths (RFC 8414 §3, OpenID Connect Discovery 1.0 §4).
const (
	wellKnownOAuth = "/.well-known/oauth-authorization-server"
	wellKnownOIDC  = "/.well-known/openid-configuration"
)

// endpoint says which endpoint a path belongs to.
func (i *Issuer) endpoint(path string) (Endpoint, bool) {
	i.mu.Lock()
	prefix := i.prefix
	i.mu.Unlock()
	for form, known := range map[string]string{
		DiscoveryOAuthInserted: wellKnownOAuth + prefix,
		DiscoveryOAuthAppended: prefix + wellKnownOAuth,
		DiscoveryOIDCInserted:  wellKnownOIDC + prefix,
		DiscoveryOIDCAppended:  prefix + wellKnownOIDC,
	} {
		if path == known && (len(i.options.Discovery) == 0 || slices.Contains(i.options.Discovery, form)) {
			return EndpointMetadata, true
		}
	}
	name, ok := strings.CutPrefix(path, prefix+"/")
	if !ok {
		return "", false
	}
	switch e := Endpoint(name); e {
	case EndpointRegister:
		return e, !i.options.NoRegistration
	case EndpointJWKS, EndpointAuthorize, EndpointToken, EndpointIntrospect, EndpointRevoke:
		return e, true
	}
	return "", false
}

// metadata is the document of RFC 8414 §2, with what OIDC Discovery wants
// besides.
func (i *Issuer) metadata() map[string]any {
	secretMethods := []string{"client_secret_basic", "client_secret_post"}
	doc := map[string]any{
		"issuer":                                         i.URL(),
		"authorization_endpoint":                         i.EndpointURL(EndpointAuthorize),
		"token_endpoint":                                 i.EndpointURL(EndpointToken),
		"jwks_uri":                                       i.EndpointURL(EndpointJWKS),
		"introspection_endpoint":                         i.EndpointURL(EndpointIntrospect),
		"revocation_endpoint":                            i.EndpointURL(EndpointRevoke),
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query"},
		"grant_types_supported":                          i.grantTypes(),
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          append([]string{"none"}, secretMethods...),
		"introspection_endpoint_auth_methods_supported":  secretMethods,
		"revocation_endpoint_auth_methods_supported":     append([]string{"none"}, secretMethods...),
		"authorization_response_iss_parameter_supported": true,
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{i.options.Algorithm},
	}
	if !i.options.NoRegistration {
		doc["registration_endpoint"] = i.EndpointURL(EndpointRegister)
	}
	if len(i.options.Scopes) > 0 {
		doc["scopes_supported"] = i.options.Scopes
	}
	override(doc, i.options.Metadata)
	return doc
}

// grantTypes are the grants the options allow.
func (i *Issuer) grantTypes() []string {
	types := []string{"authorization_code"}
	if i.options.RefreshTokens {
		types = append(types, "refresh_token")
	}
	if i.options.ClientCredentials {
		types = append(types, "client_credentials")
	}
	return types
}

// override sets members of doc; a nil value removes one.
func override(doc, with map[string]any) {
	for name, value := range with {
		if value == nil {
			delete(doc, name)
			continue
		}
		doc[name] = value
	}
}
