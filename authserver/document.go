package authserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// documentError is why a client's metadata document cannot be used. It may be shown.
type documentError struct{ text string }

func (e *documentError) Error() string { return e.text }

// Bounds of how long documents are kept, whatever their headers say.
const (
	documentLeast  = 5 * time.Minute
	documentMost   = 24 * time.Hour
	documentFailed = 30 * time.Second // a failure
	maxDocuments   = 1000
	fetchesBurst   = 100 // documents that are fetched at once,
	fetchesEach    = time.Second / 5
)

// documents are the client metadata documents that were fetched.
type documents struct {
	fetches *rate.Limiter
	group   singleflight.Group
	mu      sync.Mutex
	by      map[string]document
}

type document struct {
	client Client
	err    error
	until  time.Time
}

// documentClient is the client whose id is the URL of its metadata document (REQ-73).
// The document is fetched by the rules for what strangers name: https, no redirects,
// no private addresses, bounded size and time.
func (s *Server) documentClient(ctx context.Context, id string) (Client, error) {
	d := &s.cimd
	d.mu.Lock()
	kept, ok := d.by[id]
	d.mu.Unlock()
	if ok && time.Now().Before(kept.until) {
		return kept.client, kept.err
	}
	got, err, _ := d.group.Do(id, func() (any, error) {
		// Whoever asks for tokens can name a document, too, and answers are kept for ids
		// that were asked for only.
		if !d.fetches.Allow() {
			return document{err: &documentError{"too many clients' metadata documents are asked for at once: try again later"}}, nil
		}
		// Others wait for it, so it does not end with the first who asked.
		fetched := s.fetchDocument(context.WithoutCancel(ctx), id)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.by == nil || len(d.by) >= maxDocuments {
			d.by = map[string]document{}
		}
		d.by[id] = fetched
		return fetched, nil
	})
	if err != nil {
		return Client{}, err
	}
	fetched := got.(document)
	return fetched.client, fetched.err
}

func (s *Server) fetchDocument(ctx context.Context, id string) document {
	failed := func(format string, args ...any) document {
		return document{err: &documentError{fmt.Sprintf(format, args...)}, until: time.Now().Add(documentFailed)}
	}
	u, err := url.Parse(id)
	if err != nil || strings.Trim(u.Path, "/") == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.Contains(id, "/.") {
		return failed("the client id is no URL of a metadata document")
	}
	got, err := s.fetch.GetJSON(ctx, id)
	if err != nil {
		return failed("the client's metadata document could not be had: %v", err)
	}
	var m struct {
		registration
		ClientID string          `json:"client_id"`
		JWKSURI  string          `json:"jwks_uri"`
		Secret   json.RawMessage `json:"client_secret"`
	}
	if err := json.Unmarshal(got.Body, &m); err != nil {
		return failed("the client's metadata document is no JSON object")
	}
	switch {
	case m.ClientID != id:
		return failed("the client's metadata document is of another client")
	case m.Secret != nil || strings.HasPrefix(m.Method, "client_secret"):
		return failed("the client's metadata document has a secret, which all can read")
	case len(m.RedirectURIs) == 0 || len(m.RedirectURIs) > maxRedirects || len(m.ClientName) > maxName:
		return failed("the client's metadata document needs 1 to %d redirect URIs and a short name", maxRedirects)
	case len(m.GrantTypes) > 0 && !slices.Contains(m.GrantTypes, "authorization_code"):
		return failed("the client's metadata document does not list authorization_code")
	}
	for _, uri := range m.RedirectURIs {
		if err := s.checkRedirectURI(uri); err != nil {
			return failed("the client's metadata document: %v", err)
		}
	}
	return document{client: Client{ID: id, Name: strings.ToValidUTF8(m.ClientName, ""), Method: "none", RedirectURIs: m.RedirectURIs, Verified: u.Host},
		until: time.Now().Add(freshness(got.Header))}
}

// freshness is how long a document is kept: as its Cache-Control says, within bounds.
func freshness(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if strings.EqualFold(name, "max-age") {
			if seconds, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil {
				return min(max(time.Duration(min(seconds, 1<<30))*time.Second, documentLeast), documentMost)
			}
		}
	}
	return documentLeast
}
