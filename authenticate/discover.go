package authenticate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/fetch"
)

// discovery is what an issuer's metadata says.
type discovery struct {
	jwksURI string
	raw     []byte
	at      time.Time
}

// discover finds the metadata of the issuer and in it the place of its keys. A
// document that names another issuer, by as little as a slash, is not taken
// (REQ-57, RFC 8414 §3.3).
func (s *KeySet) discover(ctx context.Context) (*discovery, error) {
	places := fetch.IssuerMetadata(s.issuer)
	if s.metadataURL != "" {
		places = []string{s.metadataURL}
	}
	var failed []error
	for _, place := range places {
		r, err := s.client.GetJSON(ctx, place)
		if err == nil {
			var d *discovery
			if d, err = s.readMetadata(r.Body); err == nil {
				return d, nil
			}
		}
		failed = append(failed, fmt.Errorf("metadata of %s: %w", s.issuer, err))
		// Without an answer the other forms, at the same host, would only wait.
		if r.Status == 0 {
			break
		}
	}
	return nil, errors.Join(failed...)
}

func (s *KeySet) readMetadata(body []byte) (*discovery, error) {
	var c claims
	var issuer, jwksURI string
	err := members(body, func(name []byte, value jsontext.Value) error {
		switch string(name) {
		case "issuer":
			issuer = c.text(name, value)
		case "jwks_uri":
			jwksURI = c.text(name, value)
		}
		return c.wrong
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("expected one JSON object: %w", err)
	case issuer != s.issuer:
		return nil, fmt.Errorf("expected issuer %q, got %.200q", s.issuer, issuer)
	case jwksURI == "":
		return nil, errors.New("expected jwks_uri, found none")
	}
	if _, err := fetch.CheckURL(jwksURI, true); err != nil {
		return nil, fmt.Errorf("jwks_uri: %w", err)
	}
	return &discovery{jwksURI: jwksURI, raw: body, at: time.Now()}, nil
}
