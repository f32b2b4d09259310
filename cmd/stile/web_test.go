package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile/stiletest"
)

// authority signs certificates for tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string
	last int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{last: 1}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue makes a certificate for a name and 127.0.0.1.
func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	a.last++
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(a.last), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}))
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// TestServeTLS serves https, exchanges the certificate while a stream is open, and
// wants certificates of clients.
func TestServeTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	s := newServing(t, "tls: {certificate: tls/cert.pem, key: tls/key.pem, client_ca: tls/clients.pem}", stiletest.NotesOptions{})
	put := func(name string) {
		cert, key := ours.issue(t, name)
		s.write(t, "tls/key.pem", key)
		s.write(t, "tls/cert.pem", cert)
	}
	put("first")
	s.write(t, "tls/clients.pem", theirs.pem)
	s.start(t)
	if !strings.HasPrefix(s.urls[0], "https://127.0.0.1:") {
		t.Fatalf("it serves %v", s.urls)
	}
	certificate := func(a *authority) tls.Certificate {
		cert, key := a.issue(t, "client")
		made, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	client := func(certificates ...tls.Certificate) *http.Client {
		c := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: ours.pool(), Certificates: certificates}}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	for name, c := range map[string]*http.Client{"none": client(), "a stranger's": client(certificate(ours))} {
		if res, err := c.Get(s.urls[0]); err == nil {
			res.Body.Close()
			t.Errorf("with %s certificate: %s", name, res.Status)
		}
	}
	good := client(certificate(theirs))
	res, err := good.Get(s.urls[0])
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized || res.ProtoMajor != 2 || res.TLS.PeerCertificates[0].Subject.CommonName != "first" {
		t.Errorf("%d over %s of %s", res.StatusCode, res.Proto, res.TLS.PeerCertificates[0].Subject)
	}

	stream, err := http.NewRequest(http.MethodGet, s.urls[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	stream.Header.Set("Accept", "text/event-stream")
	stream.Header.Set("Authorization", "Bearer "+s.token("notes:read"))
	s.client = good
	session := s.initialize(t)
	stream.Header.Set("Mcp-Session-Id", session)
	open, err := good.Do(stream)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Body.Close()
	<-s.listen
	s.write(t, "tls/cert.pem", "half a certificate")
	s.stderr.wait(t, "certificate not reloaded", 1)
	put("second")
	s.stderr.wait(t, "certificate reloaded", 1)
	if res, err = client(certificate(theirs)).Get(s.urls[0]); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if name := res.TLS.PeerCertificates[0].Subject.CommonName; name != "second" {
		t.Errorf("a new connection got the certificate of %s", name)
	}
	if strings.Contains(s.stderr.String(), "configuration reloaded") {
		t.Errorf("the whole configuration was reloaded: %s", s.stderr)
	}
	// The stream of before still carries what the server says.
	if status := s.status(t, session, "list_notes"); status != http.StatusOK {
		t.Errorf("a call on the old connection: %d", status)
	}
	go func() { _, _ = io.Copy(io.Discard, open.Body) }()
}

// post is ask with a token of one's own.
func post(t *testing.T, c *http.Client, url, token, session, body string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Mcp-Session-Id", session)
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestUpstreamTLS reaches a server that only its own authority vouches for, and that
// wants a certificate.
func TestUpstreamTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	cert, key := theirs.issue(t, "notes.internal")
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	s := newServing(t, "", stiletest.NotesOptions{})
	plain, err := url.Parse(s.notes)
	if err != nil {
		t.Fatal(err)
	}
	inner := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != "stile" {
			t.Errorf("the server was shown %v", r.TLS.PeerCertificates)
		}
		r.URL.Scheme, r.URL.Host, r.RequestURI = "http", plain.Host, ""
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body)
	}))
	inner.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool()}
	inner.StartTLS()
	t.Cleanup(inner.Close)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	s.notes = strings.Replace(inner.URL, "http:", "https:", 1) + "/mcp\n    tls: {ca: their.pem, certificate: mine.pem, key: mine.key, server_name: notes.internal}"
	mine, secret := ours.issue(t, "stile")
	s.write(t, "their.pem", theirs.pem)
	s.write(t, "mine.pem", mine)
	s.write(t, "mine.key", secret)
	s.write(t, "stile.yaml", strings.Replace(servedConfig, "%MORE%", "", 1))
	s.start(t)
	session := s.initialize(t)
	if status := s.status(t, session, "list_notes"); status != http.StatusOK {
		t.Errorf("a call: %d", status)
	}
	s.write(t, "their.pem", newAuthority(t).pem)
	s.stderr.wait(t, "configuration reloaded", 1)
	if status := s.status(t, session, "list_notes"); status != http.StatusBadGateway {
		t.Errorf("a call to a server that nobody vouches for any more: %d", status)
	}
}

// TestTap looks at what is written of a call, with secrets in all places.
func TestTap(t *testing.T) {
	s := newServing(t, "debug: {tap: tap.jsonl, max_message: 400}", stiletest.NotesOptions{})
	s.notes += "\n    headers: {X-Api-Key: upstream-credential, Authorization: \"Bearer other-credential\"}"
	s.write(t, "stile.yaml", strings.Replace(servedConfig, "%MORE%", "debug: {tap: tap.jsonl, max_message: 400}", 1))
	s.start(t)
	token := s.token("notes:read")
	session := s.initialize(t)
	post(t, s.client, s.urls[0], token, session, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"list_notes","arguments":{"a":"`+token+`","password":"hunter2!","b":"Bearer abcdefgh","c":"upstream-credential other-credential"}}}`)
	post(t, s.client, s.urls[0], token, session, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"list_notes","arguments":{"long":"`+strings.Repeat("x", 5000)+token+`"}}}`)
	post(t, s.client, s.urls[0], token, session, `{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"delete_note","arguments":{}}}`)
	res, err := s.client.Post(s.urls[0], "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	data, err := os.ReadFile(filepath.Join(s.dir, "tap.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{"token": token, "half a token": token[:40], "signature": token[strings.LastIndex(token, ".")+1:], "session": session,
		"password": "hunter2", "bearer": "abcdefgh", "header": "upstream-credential", "header with a scheme": "other-credential"} {
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s in the tap: %s", name, data)
		}
	}
	seen := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line tapLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		if len(lines.Bytes()) > 4000 || line.Time == "" || line.Number == 0 {
			t.Errorf("line %s", lines.Text())
		}
		seen[fmt.Sprint(line.Side, " ", line.Event, " ", line.Status)]++
		if strings.Contains(line.Message, `"long"`) && line.Left < 4000 {
			t.Errorf("%d bytes left out: %s", line.Left, lines.Text())
		}
		if line.Status == 403 && !strings.Contains(strings.Join(line.Header["Www-Authenticate"], ""), `scope="notes:read notes:write", resource_metadata=`) {
			t.Errorf("the challenge is %v", line.Header["Www-Authenticate"])
		}
	}
	for _, want := range []string{"client request 0", "client answer 200", "client answer 403", "client answer 401", "client message 0", "client end 0",
		"server request 0", "server answer 200", "server message 0", "server end 0"} {
		if seen[want] == 0 {
			t.Errorf("no %s among %v", want, seen)
		}
	}
	if info, err := os.Stat(filepath.Join(s.dir, "tap.jsonl")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
}
