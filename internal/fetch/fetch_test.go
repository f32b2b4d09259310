package fetch_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/stile-mcp/stile/internal/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client may reach the test servers, which listen on 127.0.0.1.
func client(t *testing.T, o fetch.Options) *fetch.Client {
	t.Helper()
	o.AllowLoopbackHTTP = true
	c := fetch.New(o)
	t.Cleanup(c.CloseIdle)
	return c
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func wantError(t *testing.T, err error, parts ...string) *fetch.Error {
	t.Helper()
	var e *fetch.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	return e
}

func TestGetJSON(t *testing.T) {
	var sent http.Header
	at := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent = r.Header.Clone()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, `{"a":1}`)
	})
	r, err := client(t, fetch.Options{}).GetJSON(t.Context(), at+"/doc")
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Body) != `{"a":1}` || r.Status != 200 || r.Header.Get("Cache-Control") != "max-age=60" {
		t.Errorf("got %d %q %v", r.Status, r.Body, r.Header)
	}
	if sent.Get("Accept") != "application/json" || sent.Get("Accept-Encoding") != "" || sent.Get("Referer") != "" {
		t.Errorf("sent %v", sent)
	}
}

func TestGetWith(t *testing.T) {
	at := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	})
	r, err := client(t, fetch.Options{}).GetWith(t.Context(), at, http.Header{"Origin": {"https://page.example"}})
	if err != nil || r.Status != 200 || r.Header.Get("Access-Control-Allow-Origin") != "https://page.example" {
		t.Errorf("got %d %v %v", r.Status, r.Header, err)
	}
}

func TestGetJSONRefusesWhatIsNotIt(t *testing.T) {
	tests := []struct {
		name  string
		serve http.HandlerFunc
		want  string
	}{
		{"html", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html>")
		}, `expected a JSON media type, got "text/html"`},
		{"JSON sniffed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "{}")
		}, "expected a JSON media type"},
		{"not found", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "expected status 200, got status 404"},
		{"created", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) }, "got status 201"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) }, "redirects are not followed, got status 302"},
		{"permanent redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1/", http.StatusPermanentRedirect)
		}, "redirects are not followed"},
		{"gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			w.Write([]byte{0x1f, 0x8b})
		}, `without content coding, got "gzip"`},
		{"huge, declared", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000000")
			w.Write(make([]byte, 64))
		}, "at most 100 bytes"},
		{"huge, chunked", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 10 {
				w.Write(bytes.Repeat([]byte(" "), 50))
				w.(http.Flusher).Flush()
			}
		}, "at most 100 bytes, got a longer one"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "20")
			w.Write([]byte("{"))
		}, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var others atomic.Int32
			at := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/doc" {
					others.Add(1)
				}
				tt.serve(w, r)
			})
			_, err := client(t, fetch.Options{MaxBytes: 100}).GetJSON(t.Context(), at+"/doc?secret=hush")
			host, _ := url.Parse(at)
			wantError(t, err, tt.want, host.Host)
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("error %q tells the query", err)
			}
			if others.Load() != 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}

func TestExactLimitIsFine(t *testing.T) {
	at := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Write(make([]byte, 100))
	})
	if r, err := client(t, fetch.Options{MaxBytes: 100}).GetJSON(t.Context(), at); err != nil || len(r.Body) != 100 {
		t.Errorf("got %d bytes, %v", len(r.Body), err)
	}
}

func TestAddresses(t *testing.T) {
	var reached atomic.Int32
	at := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	port := at[strings.LastIndex(at, ":"):]
	refused := []struct {
		name string
		o    fetch.Options
		url  string
		want string
	}{
		{"http without leave", fetch.Options{}, "http://127.0.0.1" + port, "http is not allowed"},
		{"http elsewhere", fetch.Options{AllowLoopbackHTTP: true, AllowPrivate: true}, "http://10.0.0.1/", "http is for loopback only"},
		{"http to a name", fetch.Options{AllowLoopbackHTTP: true}, "http://localhost.example/", "http is for loopback only"},
		{"loopback by address", fetch.Options{}, "https://127.0.0.1" + port, "prohibited IP"},
		{"loopback by name", fetch.Options{}, "https://localhost" + port, "prohibited IP"},
		{"loopback, mapped", fetch.Options{AllowPrivate: true}, "https://[::ffff:169.254.169.254]" + port, "prohibited IP"},
		{"private", fetch.Options{}, "https://10.1.2.3/", "prohibited IP"},
		{"private, IPv6", fetch.Options{}, "https://[fd00::1]/", "prohibited IP"},
		{"shared", fetch.Options{}, "https://100.64.0.1/", "prohibited IP"},
		{"unspecified", fetch.Options{}, "https://0.0.0.0" + port, "prohibited IP"},
		{"cloud credentials", fetch.Options{}, "https://169.254.169.254/", "prohibited IP"},
		{"cloud credentials, operator", fetch.Options{AllowPrivate: true}, "https://169.254.169.254/", "prohibited IP"},
		{"link local, operator", fetch.Options{AllowPrivate: true}, "https://[fe80::1]/", "prohibited IP"},
		{"https to loopback may not leave it", fetch.Options{AllowLoopbackHTTP: true}, "https://10.0.0.1/", "prohibited IP"},
		{"file", fetch.Options{}, "file:///etc/passwd", "with a host"},
		{"ftp", fetch.Options{}, "ftp://example.com/", "an https URL"},
		{"opaque", fetch.Options{}, "https:example.com", "with a host"},
		{"relative", fetch.Options{}, "/keys", "with a host"},
		{"port only", fetch.Options{}, "https://:443/", "with a host"},
		{"user", fetch.Options{}, "https://u:pw@example.com/", "user information"},
		{"a command for a host", fetch.Options{}, "https://$(id)/", "host name"},
		{"fragment", fetch.Options{}, "https://example.com/#a", "fragment"},
		{"empty fragment", fetch.Options{}, "https://example.com/#", "fragment"},
		{"not a URL", fetch.Options{}, "https://exa mple/", "a URL"},
	}
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			c := fetch.New(tt.o)
			defer c.CloseIdle()
			_, err := c.Get(t.Context(), tt.url, "*/*")
			wantError(t, err, tt.want)
			if strings.Contains(err.Error(), "pw") {
				t.Errorf("error %q tells the password", err)
			}
		})
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests got through", n)
	}
}

// A name under a stranger's control that resolves to this machine must not
// reach it even where http to loopback is allowed.
func TestRebindingName(t *testing.T) {
	if _, err := net.DefaultResolver.LookupHost(t.Context(), "ip6-localhost"); err != nil {
		t.Log("no second name of this machine; the table above covers the address")
		return
	}
	c := fetch.New(fetch.Options{AllowLoopbackHTTP: true})
	defer c.CloseIdle()
	_, err := c.Get(t.Context(), "https://ip6-localhost/", "*/*")
	wantError(t, err, "prohibited IP")
}

func TestOperatorReachesPrivateAddress(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
	}))
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	c := fetch.New(fetch.Options{AllowPrivate: true, RootCAs: pool})
	defer c.CloseIdle()
	if _, err := c.GetJSON(t.Context(), s.URL); err != nil {
		t.Error(err)
	}
	stranger := fetch.New(fetch.Options{AllowPrivate: true})
	defer stranger.CloseIdle()
	_, err := stranger.GetJSON(t.Context(), s.URL)
	wantError(t, err, "certificate")
}

// A proxy may stand on a private network; what no proxy is named for may not.
func TestProxy(t *testing.T) {
	asked := make(chan string, 1)
	proxy, err := url.Parse(serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host
		w.WriteHeader(http.StatusTeapot)
	}))
	if err != nil {
		t.Fatal(err)
	}
	c := fetch.New(fetch.Options{Proxy: func(r *http.Request) (*url.URL, error) {
		if r.URL.Hostname() == "idp.example.com" {
			return proxy, nil
		}
		return nil, nil
	}})
	defer c.CloseIdle()
	_, err = c.Get(t.Context(), "https://idp.example.com/", "*/*")
	wantError(t, err, "teapot")
	if got := <-asked; got != "CONNECT idp.example.com:443" {
		t.Errorf("the proxy was asked for %s", got)
	}
	_, err = c.Get(t.Context(), "https://10.0.0.1/", "*/*")
	wantError(t, err, "prohibited IP")
}

// slow answers when the request's context ends, as a peer that never does.
type slow struct{}

func (slow) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// drip sends a byte of the body a second.
type drip struct{ ctx context.Context }

func (d drip) Read(p []byte) (int, error) {
	select {
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	}
}

type dripping struct{}

func (dripping) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: -1,
		Body: io.NopCloser(drip{r.Context()}), Request: r}, nil
}

func TestTime(t *testing.T) {
	for name, transport := range map[string]http.RoundTripper{"no answer": slow{}, "slow drip": dripping{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				_, err := fetch.New(fetch.Options{Transport: transport}).GetJSON(t.Context(), "https://idp.example/keys")
				wantError(t, err, "idp.example", "within 5s")
				if took := time.Since(start); took != 5*time.Second {
					t.Errorf("took %v of fake time, want 5s", took)
				}
			})
		})
	}
}

func TestCallerCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := fetch.New(fetch.Options{Transport: slow{}}).Get(ctx, "https://idp.example/", "*/*")
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*fetch.Error)) {
			t.Errorf("got %v, want the caller's own error", err)
		}
	})
}

func TestPostForm(t *testing.T) {
	var got url.Values
	var user string
	at := serve(t, func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		got = r.PostForm
		user, _, _ = r.BasicAuth()
		http.Redirect(w, r, "/again", http.StatusTemporaryRedirect)
	})
	h := http.Header{}
	h.Set("Authorization", "Basic bWU6c2VjcmV0")
	_, err := client(t, fetch.Options{}).PostForm(t.Context(), at, url.Values{"token": {"a+b"}}, h)
	wantError(t, err, "redirects are not followed")
	if got.Get("token") != "a+b" || user != "me" {
		t.Errorf("server saw %v from %q", got, user)
	}
	if len(h) != 1 {
		t.Errorf("the caller's header was changed: %v", h)
	}
}

func TestRefusedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, err = client(t, fetch.Options{}).Get(t.Context(), "http://"+addr+"/x?secret=hush", "*/*")
	if e := wantError(t, err, addr, "expected an answer"); e.Status != 0 || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
}

func TestIsJSON(t *testing.T) {
	for header, want := range map[string]bool{
		"application/json": true, "Application/JSON;charset=UTF-8": true, "application/jwk-set+json": true,
		"": false, "text/json": false, "application/jsonp": false, "application/token-introspection+jwt": false, "json": false,
	} {
		if got := fetch.IsJSON(header); got != want {
			t.Errorf("IsJSON(%q) = %v", header, got)
		}
	}
}
