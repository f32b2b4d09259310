package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/stepup"
)

// metadataURL is the client's own document, as the suite expects it.
const metadataURL = "https://conformance-test.local/client-metadata.json"

// directly is go-sdk's client on stepup.Transport.
func (d *driver) directly() (mcp.Transport, error) {
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	transport, err := stepup.New(config)
	if err != nil {
		return nil, err
	}
	return &mcp.StreamableClientTransport{Endpoint: d.url, HTTPClient: &http.Client{Transport: transport}}, nil
}

// config is what the suite gives beforehand, in the words of stepup.
func (d *driver) config() (stepup.Config, error) {
	c := stepup.Config{ClientMetadataURL: metadataURL, Client: stepup.Client{ID: d.given.ClientID, Secret: d.given.ClientSecret},
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	switch d.scenario {
	case "auth/client-credentials-basic":
		c.Grant = &stepup.ClientCredentials{}
	case "auth/client-credentials-jwt":
		key, err := readKey(d.given.PrivateKey)
		if err != nil {
			return c, err
		}
		c.Grant = &stepup.ClientCredentials{Key: key, Algorithm: d.given.Algorithm}
	case "auth/enterprise-managed-authorization":
		c.Grant = &stepup.EnterpriseManaged{Provider: d.given.IdPIssuer, Client: stepup.Client{ID: d.given.IdPClientID}, IDToken: told(d.given.IdPIDToken)}
	case "auth/wif-jwt-bearer":
		c.Grant = &stepup.JWTBearer{Assertion: told(d.given.WorkloadToken)}
	default:
		c.Person = person{}
	}
	if d.bad != "" {
		return c, misbehave(d.bad, d.given, &c)
	}
	return c, nil
}

func told(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

func readKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the private key is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}

// person is somebody who is signed in and allows everything: the authorization
// server redirects at once.
type person struct{}

func (person) Begin(_ context.Context, preferred string) (stepup.Visit, error) {
	if preferred == "" {
		preferred = "http://127.0.0.1:3000/callback"
	}
	return visit{preferred}, nil
}

type visit struct{ redirect string }

func (v visit) RedirectURI() string { return v.redirect }
func (v visit) Close() error        { return nil }

func (v visit) Authorize(ctx context.Context, r stepup.Request) (url.Values, error) {
	answer, err := answerTo(ctx, r.URL)
	if err != nil {
		return nil, err
	}
	return answer.Query(), nil
}

// answerTo is where an authorization request redirects to.
func answerTo(ctx context.Context, address string) (*url.URL, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	to, err := response.Location()
	if err != nil {
		return nil, fmt.Errorf("no redirect but %s", response.Status)
	}
	return to, nil
}
