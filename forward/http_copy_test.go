package forward_test

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/forward"
)

// TestHopByHopOfAnswers holds that fields about the upstream's connection stay
// there.
func TestHopByHopOfAnswers(t *testing.T) {
	upstream := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{"Connection": "x-One , X-Two,,", "Keep-Alive": "5", "Proxy-Connection": "x",
			"Proxy-Authenticate": "Basic", "Te": "x", "Upgrade": "h2c", "X-One": "1", "X-Two": "2", "X-Three": "3"} {
			w.Header().Set(name, value)
		}
	})
	w := httptest.NewRecorder()
	w.Header().Set("X-Three", "ours")
	newHTTP(t, forward.HTTPConfig{URL: upstream.URL}).ServeHTTP(w, post("{}"))
	got := w.Header()
	delete(got, "Date")
	if diff := cmp.Diff(http.Header{"Content-Length": {"0"}, "X-Three": {"ours", "3"}}, got); diff != "" {
		t.Error(diff)
	}
}

// TestRequestIsLeftAlone holds that what was asked is as before for whoever is
// in front.
func TestRequestIsLeftAlone(t *testing.T) {
	upstream := serve(t, func(http.ResponseWriter, *http.Request) {})
	r := post("{}")
	r.Header = http.Header{"Authorization": {"x"}, "Connection": {"X-A"}, "X-A": {"1"}, "Accept-Encoding": {"gzip"}}
	header, url := maps.Clone(r.Header), r.URL.String()
	newHTTP(t, forward.HTTPConfig{URL: upstream.URL}).ServeHTTP(httptest.NewRecorder(), r)
	if diff := cmp.Diff(header, r.Header); diff != "" || r.URL.String() != url {
		t.Error(r.URL, diff)
	}
}

func TestTrailers(t *testing.T) {
	upstream := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Announced")
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "[1]")
		}
		w.Header().Set("X-Announced", "a")
		w.Header().Set(http.TrailerPrefix+"X-Late", "b")
	})
	for path, body := range map[string]string{"/body": "[1]", "/none": ""} {
		front := serve(t, newHTTP(t, forward.HTTPConfig{URL: upstream.URL + path}).ServeHTTP)
		res, err := front.Client().Post(front.URL, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || string(got) != body {
			t.Errorf("%s: body %q, %v", path, got, err)
		}
		if diff := cmp.Diff(http.Header{"X-Announced": {"a"}, "X-Late": {"b"}}, res.Trailer); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// statuses notes every status that is written.
type statuses struct {
	*httptest.ResponseRecorder
	all []int
}

func (s *statuses) WriteHeader(status int) {
	s.all = append(s.all, status)
	s.ResponseRecorder.WriteHeader(status)
}

func TestInformationalAnswersStayBehind(t *testing.T) {
	upstream := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusAccepted)
	})
	w := &statuses{ResponseRecorder: httptest.NewRecorder()}
	newHTTP(t, forward.HTTPConfig{URL: upstream.URL}).ServeHTTP(w, post("{}"))
	if len(w.all) != 1 || w.all[0] != http.StatusAccepted || w.Header().Get("Link") != "" {
		t.Errorf("statuses %v, header %v", w.all, w.Header())
	}
}

// closeTeller is a body that tells whether it was closed.
type closeTeller struct {
	io.Reader
	closed bool
}

func (b *closeTeller) Close() error {
	b.closed = true
	return nil
}

// TestBodyOfTheServer holds that a body that belongs to the server is not closed,
// and not read once the transport or the answer is done with it.
func TestBodyOfTheServer(t *testing.T) {
	server := &closeTeller{Reader: strings.NewReader("123")}
	lent := forward.Lend(server)
	b := make([]byte, 1)
	if n, err := lent.Read(b); n != 1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	if err := lent.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := lent.Read(b); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("read %d, %v after the end", n, err)
	}
	if left, _ := io.ReadAll(server); string(left) != "23" || server.closed {
		t.Errorf("left %q, closed %t", left, server.closed)
	}
	upstream := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	r := post("")
	whole := &closeTeller{Reader: strings.NewReader("123")}
	r.Body, r.ContentLength = whole, -1
	newHTTP(t, forward.HTTPConfig{URL: upstream.URL}).ServeHTTP(httptest.NewRecorder(), r)
	if whole.closed {
		t.Error("the transport closed the body of the server")
	}
}

// deaf is a client that takes the header and nothing else.
type deaf struct{ *httptest.ResponseRecorder }

func (deaf) Write([]byte) (int, error) { return 0, errors.New("gone") }

// cutting is a client whose writes are cut.
type cutting struct{ *httptest.ResponseRecorder }

func (cutting) Write(p []byte) (int, error) { return len(p) / 2, nil }

func TestClientThatTakesNoBody(t *testing.T) {
	upstream := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[1,2]") })
	h := newHTTP(t, forward.HTTPConfig{URL: upstream.URL})
	for _, w := range []http.ResponseWriter{deaf{httptest.NewRecorder()}, cutting{httptest.NewRecorder()}} {
		func() {
			defer func() {
				if p := recover(); !isAbort(p) {
					t.Errorf("%T: recovered %v", w, p)
				}
			}()
			h.ServeHTTP(w, post("{}"))
		}()
	}
}

// TestHeaderOfASilentStream holds that the client sees a stream open before
// anything is said on it.
func TestHeaderOfASilentStream(t *testing.T) {
	open := make(chan struct{})
	upstream := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-open
		_, _ = io.WriteString(w, ": c\n\n")
	})
	front := serve(t, newHTTP(t, forward.HTTPConfig{URL: upstream.URL}).ServeHTTP)
	res, err := front.Client().Post(front.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	close(open)
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); line != ": c\n" {
		t.Errorf("read %q, %v", line, err)
	}
}
