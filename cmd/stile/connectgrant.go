package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/stepup"
)

// grantClientCredentials is the one grant that --grant names.
const grantClientCredentials = "client_credentials"

// checkGrant tells what does not go together.
func (c *connectCommand) checkGrant() (wrong []string) {
	add := func(bad bool, text string) {
		if bad {
			wrong = append(wrong, text)
		}
	}
	credentials := c.Grant == grantClientCredentials
	add(c.Grant != "" && !credentials, "--grant: expected client_credentials")
	add(credentials && c.ClientID == "", "--grant client_credentials: expected with --client-id")
	add(c.Key != "" && !credentials, "--key: expected with --grant client_credentials")
	add(c.KeyID != "" && c.Key == "", "--key-id: expected with --key")
	add(credentials && c.IDP != "" || credentials && c.AssertionFile != "" || c.IDP != "" && c.AssertionFile != "",
		"expected one of --grant, --idp and --assertion-file")
	add((c.IDP == "") != (c.IDTokenFile == ""), "expected --idp and --id-token-file together")
	add(c.IDP == "" && (c.IDPClientID != "" || c.IDPClientSecretFile != ""), "--idp-client-id and --idp-client-secret-file: expected with --idp")
	add(c.IDP != "" && c.ClientID == "", "--idp: expected with --client-id, which the server's own issuer knows")
	return wrong
}

// client is the registration that the command line names, if it does.
func (c *connectCommand) client(around surroundings) (stepup.Client, error) {
	client := stepup.Client{ID: c.ClientID, Issuer: c.Issuer}
	if c.ClientID == "" {
		return client, nil
	}
	if c.ClientSecretFile == "" {
		client.Secret, _ = around.lookup("STILE_CLIENT_SECRET")
		return client, nil
	}
	var err error
	client.Secret, err = oneLine(around, "--client-secret-file", c.ClientSecretFile)
	return client, err
}

// grant is how tokens are got without a person; nil where a person logs in.
func (c *connectCommand) grant(around surroundings) (stepup.Grant, error) {
	switch {
	case c.Grant == grantClientCredentials && c.Key != "":
		return c.signedCredentials(around)
	case c.Grant == grantClientCredentials:
		return &stepup.ClientCredentials{}, nil
	case c.AssertionFile != "":
		return &stepup.JWTBearer{Assertion: func(context.Context) (string, error) {
			return oneLine(around, "--assertion-file", c.AssertionFile)
		}}, nil
	case c.IDP != "":
		return c.enterprise(around)
	}
	return nil, nil
}

func (c *connectCommand) signedCredentials(around surroundings) (stepup.Grant, error) {
	data, err := around.read(c.Key)
	if err != nil {
		return nil, fmt.Errorf("--key: %s: %w", c.Key, plainFileError(err))
	}
	g, err := readSigner(data)
	if err != nil {
		return nil, fmt.Errorf("--key: %s: %w", c.Key, err)
	}
	if c.KeyID != "" {
		g.KeyID = c.KeyID
	}
	return g, nil
}

func (c *connectCommand) enterprise(around surroundings) (stepup.Grant, error) {
	g := &stepup.EnterpriseManaged{Provider: c.IDP, Client: stepup.Client{ID: c.IDPClientID}, IDToken: func(context.Context) (string, error) {
		return oneLine(around, "--id-token-file", c.IDTokenFile)
	}}
	if c.IDPClientSecretFile != "" {
		var err error
		if g.Client.Secret, err = oneLine(around, "--idp-client-secret-file", c.IDPClientSecretFile); err != nil {
			return nil, err
		}
	}
	return g, nil
}

var errSigner = errors.New("expected a private key as PEM or JWK: RSA, P-256, P-384, P-521 or Ed25519")

// readSigner reads a private key. A JWK may say its algorithm and its name.
func readSigner(data []byte) (*stepup.ClientCredentials, error) {
	var (
		key any
		g   stepup.ClientCredentials
	)
	if block, _ := pem.Decode(data); block != nil {
		key = parseKey(block.Bytes)
	} else {
		var web jose.JSONWebKey
		if err := web.UnmarshalJSON(data); err != nil || web.IsPublic() || !web.Valid() {
			return nil, errSigner
		}
		key, g.KeyID, g.Algorithm = web.Key, web.KeyID, web.Algorithm
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errSigner
	}
	g.Key = signer
	if g.Algorithm == "" {
		g.Algorithm = algorithmOf(signer)
	}
	if g.Algorithm == "" {
		return nil, errSigner
	}
	return &g, nil
}

// parseKey reads the three forms that a private key has in PEM; nil for others.
func parseKey(der []byte) any {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	return nil
}

// algorithmOf is the algorithm that a key is usual with (RFC 7518 §3.1, RFC 8037).
func algorithmOf(key crypto.Signer) string {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return string(jose.RS256)
	case ed25519.PrivateKey:
		return string(jose.EdDSA)
	case *ecdsa.PrivateKey:
		return map[string]string{"P-256": string(jose.ES256), "P-384": string(jose.ES384), "P-521": string(jose.ES512)}[k.Curve.Params().Name]
	}
	return ""
}
