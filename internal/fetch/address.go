package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"code.dny.dev/ssrf"
)

// CheckURL parses a URL and refuses what is never fetched: another scheme than
// https (or http to loopback, when allowed), user information, a fragment, no
// host. Names are not resolved here; the address is judged when it is dialled.
// The error is an *Error.
func CheckURL(rawURL string, allowLoopbackHTTP bool) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, &Error{Host: hostOf(rawURL), Want: "a URL", Err: withoutURL(err)}
	}
	want := ""
	switch {
	case u.Hostname() == "" || u.Opaque != "":
		want = "an absolute URL with a host"
	case strings.ContainsAny(u.Hostname(), oddInHosts):
		want = "a URL with a host name"
	case u.User != nil:
		want = "a URL without user information"
	case u.Fragment != "" || strings.Contains(rawURL, "#"):
		want = "a URL without a fragment"
	case u.Scheme == "https":
	case u.Scheme != "http":
		want = "an https URL"
	case !allowLoopbackHTTP:
		want = "an https URL; http is not allowed here"
	case !IsLoopback(u.Hostname()):
		want = "an https URL; http is for loopback only"
	}
	if want != "" {
		return nil, &Error{Host: hostOf(rawURL), Want: want}
	}
	return u, nil
}

// oddInHosts is what net/url lets pass in a host, and no name or address has.
const oddInHosts = "!$&'()*+,;=<>\"[]"

// IsLoopback reports whether a host as it stands in a URL, without brackets and
// port, is this machine: localhost, 127.0.0.0/8 or ::1.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
	// private4 and private6 are what AllowPrivate adds: RFC 1918, RFC 6598
	// (carrier-grade NAT, which overlay networks use), RFC 4193, and loopback.
	private4 = []netip.Prefix{loopback4, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10")}
	private6 = []netip.Prefix{loopback6, netip.MustParsePrefix("fc00::/7")}
	// everything is denied behind the loopback prefixes when a loopback name is
	// dialled, so that "localhost" can lead nowhere else.
	everything4 = netip.MustParsePrefix("0.0.0.0/0")
	everything6 = netip.MustParsePrefix("::/0")
)

// Bounds of a connection.
const (
	idleTimeout     = 30 * time.Second
	maxHeaderBytes  = 64 << 10
	maxIdlePerHost  = 16
	maxConnsPerHost = 64
)

// newTransport checks each address after resolution and before connecting
// (net.Dialer.Control), so that neither a rebinding name nor an odd spelling of
// an address gets past it.
func newTransport(o Options) *http.Transport {
	strict := []ssrf.Option{ssrf.WithAnyPort()}
	if o.AllowPrivate {
		strict = append(strict, ssrf.WithAllowedV4Prefixes(private4...), ssrf.WithAllowedV6Prefixes(private6...))
	}
	far := &net.Dialer{Timeout: o.Timeout, Control: ssrf.New(strict...).Safe}
	near := &net.Dialer{Timeout: o.Timeout, Control: ssrf.New(ssrf.WithAnyPort(),
		ssrf.WithAllowedV4Prefixes(loopback4), ssrf.WithAllowedV6Prefixes(loopback6),
		ssrf.WithDeniedV4Prefixes(everything4), ssrf.WithDeniedV6Prefixes(everything6)).Safe}
	var proxies proxies
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if proxies.include(addr) {
				return (&net.Dialer{Timeout: o.Timeout}).DialContext(ctx, network, addr)
			}
			host, _, err := net.SplitHostPort(addr)
			if err == nil && o.AllowLoopbackHTTP && IsLoopback(host) {
				return near.DialContext(ctx, network, addr)
			}
			return far.DialContext(ctx, network, addr)
		},
		TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    o.Timeout,
		ResponseHeaderTimeout:  o.Timeout,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxConnsPerHost:        maxConnsPerHost,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
	switch {
	case o.Proxy != nil:
		t.Proxy = proxies.note(o.Proxy)
	case o.AllowPrivate:
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

// proxies are the addresses of the proxies that were named so far.
type proxies struct{ addresses sync.Map }

func (p *proxies) include(address string) bool {
	_, ok := p.addresses.Load(address)
	return ok
}

// note remembers what proxy names.
func (p *proxies) note(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		u, err := proxy(r)
		if u != nil {
			port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme])
			p.addresses.Store(net.JoinHostPort(u.Hostname(), port), true)
		}
		return u, err
	}
}
