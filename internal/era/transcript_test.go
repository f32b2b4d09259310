package era_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/era"
	"github.com/stile-mcp/stile/session"
)

// TestTranscripts plays the conversations of testdata: what the client says, what the
// server is asked, what it answers and what the client hears. They run in a bubble,
// so that time passes when everybody waits, and nothing may be left behind.
//
// Each line begins with who speaks:
//
//	C> message      the client
//	C< message      what the client hears next
//	C-              the client hears nothing
//	S<x message     the next POST to the server, "*" for any, called x from here on; Hx name: value
//	                is a header of it ("-" for none)
//	S>x message     an event of the answer to x; S.x its end
//	S:x status body an answer that is no stream; S/x id is the id of the next event
//	G< header       a GET comes, with the value of Last-Event-Id; N> message is an event
//	                of the last one, G. ends it, G! status refuses those that follow
//	S-              the server is asked nothing
//	T duration      time passes
//
// $NAME stands for a string that is found out where it is first heard.
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

// stage is one conversation.
type stage struct {
	t       *testing.T
	at      string
	peer    translator
	vars    map[string]string
	posts   map[string]*incoming
	refused int // of GETs

	mu    sync.Mutex
	heard [][]byte
	asked []*incoming
	gets  []*incoming
}

// gather is how long questions may be waited for that come together.
const gather = 60 * time.Millisecond

type translator interface {
	Receive(ctx context.Context, line []byte)
	Close()
}

// incoming is a request to the server.
type incoming struct {
	header http.Header
	body   []byte
	answer chan *http.Response
	out    *io.PipeWriter
	ended  <-chan struct{}
	id     string
}

var ada = session.Owner{Issuer: "https://idp.example.com", Subject: "ada"}

func play(t *testing.T, file, script string) {
	s := &stage{t: t, vars: map[string]string{}, posts: map[string]*incoming{}}
	o := era.Options{Name: "test", Upstream: s, Owner: ada, Emit: s.emit, MaxAsking: 2, MaxSessions: 2, Log: slog.New(slog.DiscardHandler)}
	if strings.HasPrefix(file, "old") {
		s.peer = era.NewLegacy(o)
	} else {
		m, err := era.NewModern(o)
		if err != nil {
			t.Fatal(err)
		}
		s.peer = m
	}
	for i, line := range strings.Split(script, "\n") {
		s.at = file + ":" + strconv.Itoa(i+1)
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			s.step(line)
		}
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
	s.peer.Close() // calls that are under way may be answered by that, or not
	s.hang()
}

// hang lets every answer end.
func (s *stage) hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range [][]*incoming{s.asked, s.gets} {
		for _, in := range list {
			_ = in.out.CloseWithError(io.ErrUnexpectedEOF)
		}
	}
}

func (s *stage) emit(line []byte, _ string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, line)
}

// RoundTrip lets the script answer.
func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	in, out := io.Pipe()
	q := &incoming{header: r.Header, answer: make(chan *http.Response, 1), out: out, ended: r.Context().Done()}
	context.AfterFunc(r.Context(), func() { _ = out.CloseWithError(context.Canceled) })
	if r.Body != nil {
		q.body, _ = io.ReadAll(r.Body)
	}
	s.mu.Lock()
	switch r.Method {
	case http.MethodPost:
		s.asked = append(s.asked, q)
	case http.MethodGet:
		status := http.StatusOK
		if s.refused != 0 {
			status = s.refused
		}
		s.gets = append(s.gets, q)
		q.answer <- &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/event-stream"}}}
	default:
		q.answer <- &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}}
		_ = out.Close()
	}
	s.mu.Unlock()
	select {
	case res := <-q.answer:
		res.Body = in
		return res, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (s *stage) fatal(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf(s.at+": "+format, args...)
}

func (s *stage) step(line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case word == "C>":
		s.peer.Receive(s.t.Context(), []byte(s.fill(rest)))
	case word == "C<":
		s.hears(rest)
	case word == "C-":
		synctest.Wait()
		if s.mu.Lock(); len(s.heard) > 0 {
			s.fatal("the client heard %s", s.heard[0])
		}
		s.mu.Unlock()
	case word == "S-":
		synctest.Wait()
		if s.mu.Lock(); len(s.asked) > 0 {
			s.fatal("the server was asked %s", s.asked[0].body)
		}
		s.mu.Unlock()
	case word == "T":
		d, err := time.ParseDuration(rest)
		if err != nil {
			s.fatal("%v", err)
		}
		time.Sleep(d)
	case word[0] == 'G' || word == "N>":
		s.get(word, rest)
	case strings.HasPrefix(word, "S<"):
		s.isAsked(word[2:], rest)
	case word[0] == 'H':
		s.hasHeader(s.posts[word[1:]], rest)
	case word[0] == 'S':
		s.answers(word[1], s.posts[word[2:]], rest)
	default:
		s.fatal("not understood: %s", line)
	}
}

// fill puts in what $NAMEs stand for.
func (s *stage) fill(text string) string {
	for name, value := range s.vars {
		text = strings.ReplaceAll(text, "$"+name, value)
	}
	return text
}

func (s *stage) hears(want string) {
	synctest.Wait()
	time.Sleep(gather)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heard) == 0 {
		s.fatal("the client heard nothing")
		return
	}
	got := s.heard[0]
	s.heard = s.heard[1:]
	s.same(got, want)
}

// same compares two messages, and learns.
func (s *stage) same(got []byte, want string) {
	a, b := canonical(got), canonical([]byte(s.fill(want)))
	for {
		i := strings.IndexByte(b, '$')
		if i < 0 || len(a) < i || a[:i] != b[:i] {
			break
		}
		end := i + 1
		for end < len(b) && b[end] >= 'A' && b[end] <= 'Z' {
			end++
		}
		stop := i + strings.IndexAny(a[i:], `"`)
		s.vars[b[i+1:end]] = a[i:stop]
		b = strings.ReplaceAll(b, b[i:end], a[i:stop])
	}
	if a != b {
		s.fatal("\ngot  %s\nwant %s", a, b)
	}
}

func canonical(text []byte) string {
	v := jsontext.Value(bytes.Clone(text))
	if err := v.Canonicalize(); err != nil {
		return fmt.Sprintf("%s (%v)", text, err)
	}
	return string(v)
}

func (s *stage) isAsked(name, want string) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) == 0 {
		s.fatal("the server was asked nothing")
		return
	}
	s.posts[name] = s.asked[0]
	s.asked = s.asked[1:]
	if want != "*" {
		s.same(s.posts[name].body, want)
	}
}

func (s *stage) hasHeader(q *incoming, rest string) {
	name, want, _ := strings.Cut(rest, ": ")
	if got := q.header.Get(name); got != s.fill(want) && (want != "-" || got != "") {
		s.fatal("%s is %q", name, got)
	}
}

// answers lets the server speak.
func (s *stage) answers(how byte, q *incoming, rest string) {
	text := s.fill(rest)
	begin := func() {
		select {
		case q.answer <- &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}, "Mcp-Session-Id": {"far"}}}:
		default:
		}
	}
	switch how {
	case '/':
		q.id = text
	case '>':
		begin()
		s.write(q, text)
	case '.':
		begin()
		_ = q.out.Close()
	case ':':
		code, body, _ := strings.Cut(text, " ")
		status, err := strconv.Atoi(code)
		if err != nil {
			s.fatal("%v", err)
			return
		}
		h := http.Header{"Content-Type": {"application/json"}, "Mcp-Session-Id": {"far"}}
		if challenge, ok := strings.CutPrefix(body, "WWW-Authenticate: "); ok {
			h.Set("WWW-Authenticate", challenge)
			body = ""
		}
		q.answer <- &http.Response{StatusCode: status, Header: h}
		go func() {
			_, _ = io.WriteString(q.out, body)
			_ = q.out.Close()
		}()
	}
}

// write sends an event; who does not read any more has gone.
func (s *stage) write(q *incoming, text string) {
	event := "data: " + text + "\n\n"
	if q.id != "" {
		event = "id: " + q.id + "\nretry: 10\n" + event
	}
	if _, err := io.WriteString(q.out, event); err != nil && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, context.Canceled) {
		s.fatal("%v", err)
	}
}

func (s *stage) get(word, rest string) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if word == "G!" {
		s.refused, _ = strconv.Atoi(rest)
		return
	}
	if len(s.gets) == 0 {
		s.fatal("no GET has come")
		return
	}
	last := s.gets[len(s.gets)-1]
	switch word {
	case "G<":
		if got := last.header.Get("Last-Event-Id"); got != rest {
			s.fatal("the last GET has Last-Event-Id %q", got)
		}
	case "G.":
		_ = last.out.Close()
	case "N>":
		s.write(last, s.fill(rest))
	}
}
