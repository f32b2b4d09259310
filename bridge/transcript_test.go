package bridge_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile/bridge"
	"github.com/stile-mcp/stile/stepup"
)

// TestTranscripts plays the conversations of testdata: what the client says, what
// reaches the server, byte for byte, what it answers and what the client hears. They
// run in a bubble, so that time passes when everybody waits, and nothing may be left
// behind.
//
// Each line begins with who speaks:
//
//	C> line              the client; "C.": its output ends
//	C< line              what the client hears next
//	C-                   the client hears nothing
//	S<x METHOD body      a request that has come to the server, called x from here on
//	Hx Name: value       is a header of it ("-" for none)
//	Ux URL               is where it went
//	S:x status body      an answer that is no stream: JSON, or after "text/html " that;
//	                     Name=value before the body is a header
//	S+x Name=value       an event stream begins; S>x text is a part of it, with \n for a
//	                     line end; S.x ends it, S!x breaks it off
//	S~x                  it is answered at first, and a login is under way
//	S^x                  the client has given x up
//	S-                   nothing else has come to the server
//	X text               the server cannot be reached any more; X alone: it can
//	L op scopes          nor can it be logged in to; "N n": it was tried so often since
//	V text               the person is told something
//	T duration           time passes
//	E / Q                the context is done / Run has returned nil
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { play(t, filepath.Base(file), string(script)) })
		})
	}
}

// long are texts that a script cannot hold: more than MaxMessage, and no UTF-8.
var long = strings.NewReplacer("%LONG%", strings.Repeat("x", 3000), "%FF%", "\xff")

// stage is one conversation.
type stage struct {
	t     *testing.T
	at    string
	in    *io.PipeWriter
	voice bridge.Voice
	stop  context.CancelFunc
	ended chan error
	named map[string]*incoming

	mu    sync.Mutex
	heard []string
	came  []*incoming
	fails error
	tried int // requests since it fails
}

// incoming is a request to the server.
type incoming struct {
	r      *http.Request
	body   string
	answer chan *http.Response
	out    *io.PipeWriter
	trace  *httptrace.ClientTrace
}

func play(t *testing.T, file, script string) {
	in, toBridge := io.Pipe()
	s := &stage{t: t, in: toBridge, named: map[string]*incoming{}, ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	go func() {
		s.ended <- bridge.Run(ctx, bridge.Config{URL: "https://far.example/mcp?k=1", Transport: s, In: in, Out: writerFunc(s.hear), Voice: &s.voice,
			Header: http.Header{"X-Key": {"secret"}, "Mcp-Session-Id": {"none"}}, MaxMessage: 2000, MaxCalls: 2, Advice: "Do this.", Log: slog.New(slog.DiscardHandler)})
	}()
	synctest.Wait()
	over := false
	for i, line := range strings.Split(script, "\n") {
		s.at = file + ":" + strconv.Itoa(i+1)
		if line = strings.TrimRight(line, " \r"); line == "" || line[0] == '#' {
			continue
		}
		if line == "Q" {
			over = true
		}
		s.step(line)
		if t.Failed() {
			break
		}
	}
	synctest.Wait()
	s.mu.Lock()
	if len(s.heard) > 0 && !t.Failed() {
		t.Errorf("the client also heard %s", s.heard)
	}
	s.mu.Unlock()
	cancel()
	_ = toBridge.Close()
	if !over {
		<-s.ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.came {
		_ = q.out.CloseWithError(io.ErrUnexpectedEOF)
	}
}

func (s *stage) hear(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Count(string(p), "\n") != 1 || !strings.HasSuffix(string(p), "\n") {
		s.t.Errorf("not one line: %q", p)
	}
	s.heard = append(s.heard, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// RoundTrip lets the script answer.
func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	fails := s.fails
	s.tried++
	s.mu.Unlock()
	if fails != nil {
		return nil, fails
	}
	in, out := io.Pipe()
	q := &incoming{r: r, answer: make(chan *http.Response, 1), out: out}
	context.AfterFunc(r.Context(), func() { _ = out.CloseWithError(context.Canceled) })
	if r.Body != nil {
		body, _ := io.ReadAll(r.Body)
		q.body = string(body)
	}
	trace := httptrace.ContextClientTrace(r.Context())
	q.trace = trace
	if trace != nil && trace.WroteRequest != nil {
		trace.WroteRequest(httptrace.WroteRequestInfo{})
	}
	s.mu.Lock()
	s.came = append(s.came, q)
	s.mu.Unlock()
	select {
	case res := <-q.answer:
		if trace != nil && trace.GotFirstResponseByte != nil {
			trace.GotFirstResponseByte()
		}
		if res.Body == nil {
			res.Body = in
		}
		return res, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (s *stage) fatal(format string, args ...any) { s.t.Errorf(s.at+": "+format, args...) }

func (s *stage) step(line string) {
	synctest.Wait()
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case word == "C>":
		_, _ = io.WriteString(s.in, long.Replace(rest)+"\n")
	case word == "C.":
		_ = s.in.Close()
	case word == "C<":
		s.hears(rest)
	case word == "C-":
		if s.mu.Lock(); len(s.heard) > 0 {
			s.fatal("the client heard %s", s.heard[0])
		}
		s.mu.Unlock()
	case word == "S-":
		if s.mu.Lock(); len(s.came) > 0 {
			s.fatal("to the server came %s %s", s.came[0].r.Method, s.came[0].body)
		}
		s.mu.Unlock()
	case word == "X":
		s.refuse(errOrNil(rest))
	case word == "L":
		op, scopes, _ := strings.Cut(rest, " ")
		s.refuse(&stepup.Error{Resource: "https://far.example/mcp", Operation: op, Scopes: strings.Fields(scopes), Err: &stepup.DeniedError{Code: "access_denied"}})
	case word == "N":
		s.mu.Lock()
		if strconv.Itoa(s.tried) != rest {
			s.fatal("%d requests were tried", s.tried)
		}
		s.mu.Unlock()
	case word == "V":
		s.voice.Say(rest)
	case word == "T":
		d, err := time.ParseDuration(rest)
		if err != nil {
			s.fatal("%v", err)
		}
		time.Sleep(d)
	case word == "E":
		s.stop()
	case word == "Q":
		select {
		case err := <-s.ended:
			if err != nil {
				s.fatal("Run: %v", err)
			}
		default:
			s.fatal("Run goes on")
		}
	case strings.HasPrefix(word, "S<"):
		s.take(word[2:], rest)
	default:
		s.about(word, rest)
	}
}

func errOrNil(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

func (s *stage) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails, s.tried = err, 0
}

func (s *stage) hears(want string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heard) == 0 {
		s.fatal("the client heard nothing")
		return
	}
	if got := s.heard[0]; got != want {
		s.fatal("the client heard\n%s, not\n%s", got, want)
	}
	s.heard = s.heard[1:]
}

// take names a request that has come.
func (s *stage) take(name, rest string) {
	method, body, _ := strings.Cut(rest, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.came, func(q *incoming) bool { return q.r.Method == method && (q.body == body || body == "*") })
	if i < 0 {
		s.fatal("there is no %s %s; there came %d", method, body, len(s.came))
		for _, q := range s.came {
			s.t.Logf("%s %s", q.r.Method, q.body)
		}
		return
	}
	s.named[name] = s.came[i]
	s.came = slices.Delete(s.came, i, i+1)
}

// about is a step about a request that has a name.
func (s *stage) about(word, rest string) {
	q, kind := s.named[strings.TrimLeft(word, "SHU:~+>.!^")], strings.TrimLeft(word, "S")
	if q == nil {
		s.fatal("no request is called so: %s", word)
		return
	}
	switch kind[0] {
	case 'H':
		name, want, _ := strings.Cut(rest, ": ")
		if got := strings.Join(q.r.Header.Values(name), ", "); got != want && (want != "-" || got != "") {
			s.fatal("header %s is %q, not %q", name, got, want)
		}
	case 'U':
		if got := q.r.URL.String(); got != rest {
			s.fatal("it went to %s", got)
		}
	case ':':
		status, text, _ := strings.Cut(rest, " ")
		code, _ := strconv.Atoi(status)
		h, body := headers(text, "application/json")
		if media, page, ok := strings.Cut(body, " "); ok && strings.HasPrefix(media, "text/") {
			h.Set("Content-Type", media)
			body = page
		}
		q.answer <- &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(long.Replace(body)))}
	case '~':
		q.trace.GotFirstResponseByte()
	case '+':
		h, _ := headers(rest, "text/event-stream")
		q.answer <- &http.Response{StatusCode: http.StatusOK, Header: h}
	case '>':
		text := strings.ReplaceAll(long.Replace(rest), `\n`, "\n")
		if _, err := io.WriteString(q.out, text+"\n\n"); err != nil {
			s.fatal("nobody reads: %v", err)
		}
	case '.':
		_ = q.out.Close()
	case '!':
		_ = q.out.CloseWithError(io.ErrUnexpectedEOF)
	case '^':
		if q.r.Context().Err() == nil {
			s.fatal("it still waits")
		}
	default:
		s.fatal("what is %s?", word)
	}
}

func headers(text, media string) (http.Header, string) {
	h := http.Header{"Content-Type": {media}}
	for {
		word, rest, _ := strings.Cut(text, " ")
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" || name[0] < 'A' || name[0] > 'Z' {
			return h, text
		}
		h.Set(name, strings.ReplaceAll(long.Replace(value), "~", " "))
		text = rest
	}
}
