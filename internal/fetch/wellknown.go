package fetch

import (
	"net/url"
	"strings"
)

// IssuerMetadata are where the metadata of an issuer may stand, in the order in
// which clients look (REQ-70): RFC 8414 §3.1, OpenID Connect inserted and
// appended, and last RFC 8414 appended, which is where Okta has it. It is nil for
// what is no URL.
func IssuerMetadata(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil
	}
	origin := u.Scheme + "://" + u.Host
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	const oauth, oidc = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	if path == "" {
		return []string{origin + oauth, origin + oidc}
	}
	return []string{origin + oauth + path, origin + oidc + path, origin + path + oidc, origin + path + oauth}
}

// ResourceMetadata are where the metadata of a protected resource may stand when no
// challenge says (REQ-50, RFC 9728 §3.1): with the path of the endpoint inserted,
// and at the root, which is the same for an endpoint without a path.
func ResourceMetadata(endpoint *url.URL) (inserted, root string) {
	root = endpoint.Scheme + "://" + endpoint.Host + "/.well-known/oauth-protected-resource"
	return root + strings.TrimSuffix(endpoint.EscapedPath(), "/"), root
}
