package authenticate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/scope"
)

// APIKeyIssuer is the issuer of every identity that an API key stands for.
const APIKeyIssuer = "urn:stile:api-keys"

// APIKey is one key. The key itself is never configured, only its hash.
type APIKey struct {
	// Name is how logs call the key. Required, unique.
	Name string
	// SHA256 is the hash of the key, 64 hexadecimal digits. Required, unique.
	// Keys must be random (128 bits or more): the hash is neither salted nor slow.
	SHA256 string
	// Subject is who the caller is. Default: Name.
	Subject string
	// Scopes are what the caller may do, separated by spaces.
	Scopes string
}

// APIKeys verifies API keys. Its identities do not expire and are Final: no login
// gives a key more scopes (DES-21). A key is found by its hash, so the time that
// takes tells nothing of other keys. It is immutable and safe for concurrent use.
type APIKeys struct {
	profile *Profile
	keys    map[[sha256.Size]byte]*Identity
}

// NewAPIKeys checks the keys; the error is a list of every mistake, with paths
// such as "[2].sha256".
func NewAPIKeys(keys []APIKey) (*APIKeys, error) {
	v := &APIKeys{profile: &Profile{Issuer: APIKeyIssuer}, keys: make(map[[sha256.Size]byte]*Identity, len(keys))}
	var mistakes problem.List
	names := map[string]bool{}
	for i, k := range keys {
		at := "[" + strconv.Itoa(i) + "]"
		switch {
		case k.Name == "":
			mistakes.Add(at+".name", "", "a name for the log")
		case names[k.Name]:
			mistakes.Add(at+".name", k.Name, "a name that no other key has")
		}
		names[k.Name] = true
		// What stands here may be the key itself by mistake: it is never repeated.
		raw, err := hex.DecodeString(k.SHA256)
		if err != nil || len(raw) != sha256.Size {
			mistakes.Add(at+".sha256", "", "64 hexadecimal digits, as sha256sum prints them")
			continue
		}
		hash := [sha256.Size]byte(raw)
		switch {
		case v.keys[hash] != nil:
			mistakes.Add(at+".sha256", "", "a key that no other entry has")
		case hash == sha256.Sum256(nil):
			mistakes.Add(at+".sha256", "", "the hash of a key, not that of nothing")
		}
		v.keys[hash] = &Identity{Issuer: APIKeyIssuer, Subject: firstOf(k.Subject, k.Name), ClientID: k.Name,
			Scopes: keyScopes(&mistakes, at+".scopes", k.Scopes), TokenHash: hash, Final: true, Profile: v.profile}
	}
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	return v, nil
}

func keyScopes(mistakes *problem.List, path, scopes string) scope.Set {
	var set scope.Set
	seen := map[string]bool{}
	for _, token := range strings.Fields(scopes) {
		if !isScopeToken(token) {
			mistakes.Add(path, token, "scopes separated by spaces (RFC 6749 section 3.3)")
		}
		if !seen[token] {
			set = append(set, token)
		}
		seen[token] = true
	}
	return set
}

// Issuer is APIKeyIssuer.
func (v *APIKeys) Issuer() string { return APIKeyIssuer }

// Profile is that of all API keys.
func (v *APIKeys) Profile() *Profile { return v.profile }

// Verify finds the identity of a key. The error is always an *Error with Kind
// Unknown: what is no key may be another verifier's token.
func (v *APIKeys) Verify(_ context.Context, key string) (*Identity, error) {
	if id := v.keys[sha256.Sum256([]byte(key))]; id != nil {
		return id, nil
	}
	return nil, &Error{Kind: Unknown, Description: "not an API key"}
}
