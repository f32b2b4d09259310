package stepup

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

type resourceKey struct{}

// WithResource returns a context whose requests are made with the login of another URL
// of the same origin: the one for messages that a server of the transport of
// 2024-11-05 names is a part of its endpoint, and no resource of its own. For a request
// to another origin it does nothing.
func WithResource(ctx context.Context, endpoint string) context.Context {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, resourceKey{}, u)
}

// endpointOf is the URL whose login a request is made with.
func endpointOf(r *http.Request) *url.URL {
	u, ok := r.Context().Value(resourceKey{}).(*url.URL)
	if ok && u.Scheme == r.URL.Scheme && strings.EqualFold(u.Host, r.URL.Host) {
		return u
	}
	return r.URL
}
