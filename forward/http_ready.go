package forward

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// readyFor is how long the outcome of a probe is good for.
const readyFor = time.Second

// Ready reports whether the upstream takes connections, with TLS where the URL
// says so; a proxy from the environment stands in for it. Nothing is sent. The
// answer may be 1 s old, and concurrent calls share one probe. The error names
// the host.
func (h *HTTP) Ready(ctx context.Context) error {
	h.mu.Lock()
	fresh, err := time.Since(h.checked) < readyFor, h.ready
	h.mu.Unlock()
	if fresh {
		return err
	}
	probe := h.probes.DoChan("", func() (any, error) {
		err := h.probe()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.checked, h.ready = time.Now(), err
		return nil, err
	})
	select {
	case r := <-probe:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("upstream %s: %w", h.url.Host, ctx.Err())
	}
}

// probe connects once. It ends by itself.
func (h *HTTP) probe() error {
	ctx, cancel := context.WithTimeout(context.Background(), h.connect+handshakeTimeout(h.connect))
	defer cancel()
	target, secure := h.url, h.url.Scheme == "https"
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: h.url}); err == nil && proxy != nil {
		target, secure = proxy, false
	}
	conn, err := h.dialer.DialContext(ctx, "tcp", hostPort(target))
	if err != nil {
		return fmt.Errorf("upstream %s: %w", h.url.Host, err)
	}
	defer func() { _ = conn.Close() }()
	if !secure {
		return nil
	}
	c := h.tls.Clone()
	if c == nil {
		c = &tls.Config{}
	}
	if c.ServerName == "" {
		c.ServerName = target.Hostname()
	}
	if err := tls.Client(conn, c).HandshakeContext(ctx); err != nil {
		return fmt.Errorf("upstream %s: %w", h.url.Host, err)
	}
	return nil
}

// hostPort is what is dialled, with the name as the DNS has it (RFC 5891), as
// http.Transport would.
func hostPort(u *url.URL) string {
	host, port := u.Hostname(), u.Port()
	if strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		if ascii, err := idna.Lookup.ToASCII(host); err == nil {
			host = ascii
		}
	}
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	case strings.HasPrefix(u.Scheme, "socks5"):
		port = "1080"
	default:
		port = "80"
	}
	return net.JoinHostPort(host, port)
}
