package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stile-mcp/stile/stepup"
)

// bridgeHeaders are those that the bridge itself writes.
var bridgeHeaders = []string{"Accept", "Connection", "Content-Length", "Content-Type", "Host", "Last-Event-Id", "Mcp-Method", "Mcp-Name",
	"Mcp-Protocol-Version", "Mcp-Session-Id", "Transfer-Encoding", "Dpop"}

// readHeaders reads NAME=VALUE, or NAME: VALUE as other bridges have it, with what it
// takes from the environment.
func readHeaders(texts []string, around surroundings) (http.Header, error) {
	h := http.Header{}
	for _, text := range texts {
		at := strings.IndexAny(text, "=:")
		if at <= 0 || strings.ContainsFunc(text[:at], notInName) {
			return nil, usageError{"--header: expected NAME=VALUE with the name of a header"}
		}
		name := http.CanonicalHeaderKey(text[:at])
		if slices.Contains(bridgeHeaders, name) || strings.HasPrefix(name, "Mcp-Param-") {
			return nil, usageError{"--header " + name + ": the bridge writes this one itself"}
		}
		value, _, err := around.interpolate(strings.TrimSpace(text[at+1:]))
		if err != nil {
			return nil, usageError{"--header " + name + ": " + err.Error()}
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, usageError{"--header " + name + ": expected a value on one line, without control characters"}
		}
		h.Add(name, value)
	}
	return h, nil
}

// notInName reports whether a character may not stand in the name of a header (RFC
// 9110 §5.6.2).
func notInName(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// Bounds of connections to the server. There is none for an answer: bridges wait as
// long as their clients do.
const (
	connectDialTime = 30 * time.Second
	connectIdleTime = 90 * time.Second
)

// setNetwork says how the server and the issuers are reached.
func (c *connectCommand) setNetwork(p *process, to *stepup.Config) error {
	proxy := http.ProxyFromEnvironment
	if c.Proxy != "" {
		u, err := url.Parse(c.Proxy)
		if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			return usageError{"--proxy: expected an http, https or socks5 URL"}
		}
		proxy = http.ProxyURL(u)
	}
	if c.CA != "" {
		pool, err := readCertificates(p.around, c.CA)
		if err != nil {
			return err
		}
		to.RootCAs = pool
	}
	to.Proxy, to.AllowPrivate = proxy, isPrivate(p.ctx, c.URL)
	to.Base = &http.Transport{
		Proxy:               proxy,
		DialContext:         (&net.Dialer{Timeout: connectDialTime}).DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: to.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: connectDialTime,
		IdleConnTimeout:     connectIdleTime,
		ForceAttemptHTTP2:   true,
	}
	return nil
}

// lookUpTime is how long a name may take before it counts as one of the open network.
const lookUpTime = 2 * time.Second

// isPrivate reports whether a server is on a private network, as a company's is. Then
// its issuers may be there too; for other servers' issuers that would be a way in.
func isPrivate(ctx context.Context, endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	return err == nil && slices.ContainsFunc(addresses, func(a netip.Addr) bool { return a.IsPrivate() || a.IsLoopback() })
}

// errEmptyFile says that a file holds nothing.
var errEmptyFile = errors.New("expected one line and nothing else")

// oneLine reads a secret or a token from a file.
func oneLine(around surroundings, flag, name string) (string, error) {
	data, err := around.read(name)
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", flag, name, plainFileError(err))
	}
	text := strings.TrimSpace(string(data))
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("%s: %s: %w", flag, name, errEmptyFile)
	}
	return text, nil
}
