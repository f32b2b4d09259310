package sse_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/internal/sse"
)

// event is an Event with memory of its own.
type event struct {
	Raw, Data, ID, Type string
	HasData, BOM        bool
}

func own(ev sse.Event) event {
	return event{string(ev.Raw), string(ev.Data), string(ev.ID), string(ev.Type), ev.HasData, ev.BOM}
}

// scan feeds the chunks and returns the events and what was left.
func scan(t *testing.T, s *sse.Scanner, chunks ...string) (events []event, rest string) {
	t.Helper()
	for _, c := range chunks {
		chunk := []byte(c)
		err := s.Feed(chunk, func(ev sse.Event) error {
			events = append(events, own(ev))
			return nil
		})
		if err != nil {
			t.Fatalf("Feed(%q): %v", c, err)
		}
		for i := range chunk { // nothing of the chunk may be kept
			chunk[i] = '#'
		}
	}
	if ev, ok := s.End(); ok {
		rest = string(ev.Raw)
	}
	return events, rest
}

func TestScan(t *testing.T) {
	tests := []struct {
		name   string
		chunks []string
		want   []event
		rest   string
	}{
		{name: "nothing"},
		{name: "one event", chunks: []string{"data: {}\n\n"}, want: []event{{Raw: "data: {}\n\n", Data: "{}", HasData: true}}},
		{name: "all fields", chunks: []string{"id: 7\nevent: message\nretry: 10\ndata: x\n\n"},
			want: []event{{Raw: "id: 7\nevent: message\nretry: 10\ndata: x\n\n", ID: "7", Type: "message", Data: "x", HasData: true}}},
		{name: "two in one chunk", chunks: []string{"data: 1\n\ndata: 2\n\nda"},
			want: []event{{Raw: "data: 1\n\n", Data: "1", HasData: true}, {Raw: "data: 2\n\n", Data: "2", HasData: true}}, rest: "da"},
		{name: "byte by byte", chunks: strings.Split("data: ab\r\n\r\ndata:c\n\n", ""),
			want: []event{{Raw: "data: ab\r\n\r", Data: "ab", HasData: true}, {Raw: "\ndata:c\n\n", Data: "c", HasData: true}}},
		{name: "CRLF", chunks: []string{"data: a\r\ndata: b\r\n\r\n"}, want: []event{{Raw: "data: a\r\ndata: b\r\n\r\n", Data: "a\nb", HasData: true}}},
		{name: "CR", chunks: []string{"data: a\rdata: b\r\rdata: c\r\r"},
			want: []event{{Raw: "data: a\rdata: b\r\r", Data: "a\nb", HasData: true}, {Raw: "data: c\r\r", Data: "c", HasData: true}}},
		{name: "mixed line ends", chunks: []string{"data: a\rdata: b\ndata: c\r\n\n"}, want: []event{{Raw: "data: a\rdata: b\ndata: c\r\n\n", Data: "a\nb\nc", HasData: true}}},
		{name: "CRLF cut in the blank line", chunks: []string{"data: a\r\n\r", "\ndata: b\r\n\r\n"},
			want: []event{{Raw: "data: a\r\n\r", Data: "a", HasData: true}, {Raw: "\ndata: b\r\n\r\n", Data: "b", HasData: true}}},
		{name: "CRLF cut after the field", chunks: []string{"data: a\r", "\n", "\r\n"}, want: []event{{Raw: "data: a\r\n\r\n", Data: "a", HasData: true}}},
		{name: "BOM", chunks: []string{"\xEF\xBB\xBFdata: a\n\n"}, want: []event{{Raw: "\xEF\xBB\xBFdata: a\n\n", Data: "a", HasData: true, BOM: true}}},
		{name: "BOM in pieces", chunks: []string{"\xEF", "\xBB", "\xBFdata: a\n\n"}, want: []event{{Raw: "\xEF\xBB\xBFdata: a\n\n", Data: "a", HasData: true, BOM: true}}},
		{name: "BOM then a blank line", chunks: []string{"\xEF\xBB\xBF\n"}, want: []event{{Raw: "\xEF\xBB\xBF\n", BOM: true}}},
		{name: "BOM only once", chunks: []string{"\n\xEF\xBB\xBFdata: a\n\n"}, want: []event{{Raw: "\n"}, {Raw: "\xEF\xBB\xBFdata: a\n\n"}}},
		{name: "no colon", chunks: []string{"data\nid\n\n"}, want: []event{{Raw: "data\nid\n\n", HasData: true}}},
		{name: "two lines without a colon", chunks: []string{"data\ndata\n\n"}, want: []event{{Raw: "data\ndata\n\n", Data: "\n", HasData: true}}},
		{name: "one space only", chunks: []string{"data:  a \n\n"}, want: []event{{Raw: "data:  a \n\n", Data: " a ", HasData: true}}},
		{name: "colons in the value", chunks: []string{"data:a:b\n\n"}, want: []event{{Raw: "data:a:b\n\n", Data: "a:b", HasData: true}}},
		{name: "comment", chunks: []string{":\n\n: hi\ndata: a\n\n"}, want: []event{{Raw: ":\n\n"}, {Raw: ": hi\ndata: a\n\n", Data: "a", HasData: true}}},
		{name: "priming event", chunks: []string{"id: 1\ndata:\n\n"}, want: []event{{Raw: "id: 1\ndata:\n\n", ID: "1", HasData: true}}},
		{name: "field names are exact", chunks: []string{"Data: a\n data: b\ndata : c\n\n"}, want: []event{{Raw: "Data: a\n data: b\ndata : c\n\n"}}},
		{name: "id with NUL", chunks: []string{"id: a\nid: b\x00\n\n"}, want: []event{{Raw: "id: a\nid: b\x00\n\n", ID: "a"}}},
		{name: "blank lines", chunks: []string{"\n\r\n\r\r"}, want: []event{{Raw: "\n"}, {Raw: "\r\n"}, {Raw: "\r"}, {Raw: "\r"}}},
		{name: "cut off", chunks: []string{"data: a\n"}, rest: "data: a\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, rest := scan(t, &sse.Scanner{}, tt.chunks...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if rest != tt.rest {
				t.Errorf("rest %q, want %q", rest, tt.rest)
			}
		})
	}
}

func TestEndIsAnEvent(t *testing.T) {
	var s sse.Scanner
	if err := s.Feed([]byte("id: 1\ndata: a\ndata: b"), func(sse.Event) error { return errors.New("no event ended") }); err != nil {
		t.Fatal(err)
	}
	if got := s.Buffered(); got != len("id: 1\ndata: a\ndata: b") {
		t.Errorf("Buffered %d", got)
	}
	ev, ok := s.End()
	want := event{Raw: "id: 1\ndata: a\ndata: b", Data: "a\nb", ID: "1", HasData: true}
	if !ok || own(ev) != want {
		t.Errorf("End = %+v, %t, want %+v", own(ev), ok, want)
	}
	if ev, ok := s.End(); ok {
		t.Errorf("second End = %+v", own(ev))
	}
}

func TestLimit(t *testing.T) {
	none := func(sse.Event) error { return nil }
	tests := []struct {
		name   string
		chunks []string
		ok     bool
	}{
		{"at the limit", []string{"data: ab\n\n"}, true},
		{"over in one chunk", []string{"data: abc\n\n"}, false},
		{"over in pieces", []string{"data: a", "bcde"}, false},
		{"comments count", []string{": 56789", "01234"}, false},
		{"many events", []string{"data: a\n\ndata: b\n\ndata: c\n\n"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := sse.Scanner{Max: 10}
			var err error
			for _, c := range tt.chunks {
				if err = s.Feed([]byte(c), none); err != nil {
					break
				}
			}
			var large *sse.TooLargeError
			if tt.ok != (err == nil) || (err != nil && (!errors.As(err, &large) || large.Max != 10)) {
				t.Errorf("error %v, want none: %t", err, tt.ok)
			}
			if err != nil && !strings.Contains(err.Error(), "over 10 bytes") {
				t.Errorf("error %q does not name the limit", err)
			}
		})
	}
}

func TestFeedStopsAtError(t *testing.T) {
	stop := errors.New("stop")
	n := 0
	var s sse.Scanner
	err := s.Feed([]byte("data: 1\n\ndata: 2\n\n"), func(sse.Event) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("error %v after %d events, want %v after 1", err, n, stop)
	}
}

func TestWholeEventsAreNotCopied(t *testing.T) {
	var s sse.Scanner
	chunk := []byte("id: 1\nevent: message\ndata: {\"jsonrpc\":\"2.0\"}\n\n")
	seen := 0
	allocs := testing.AllocsPerRun(100, func() {
		if err := s.Feed(chunk, func(ev sse.Event) error {
			if &ev.Raw[0] != &chunk[0] || !ev.HasData {
				t.Error("the event was copied")
			}
			seen++
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 || seen == 0 {
		t.Errorf("%v allocations an event, %d events", allocs, seen)
	}
}

// reference is the interpretation of WHATWG HTML §9.2.6, written as it stands
// there, on a whole stream: what a client dispatches, as data and last event id.
func reference(stream string) (dispatched []event) {
	stream = strings.TrimPrefix(stream, "\xEF\xBB\xBF")
	stream = strings.ReplaceAll(stream, "\r\n", "\n")
	stream = strings.ReplaceAll(stream, "\r", "\n")
	lines := strings.Split(stream, "\n")
	lines = lines[:len(lines)-1] // what no line end ends is no line
	var data, eventType, id string
	for _, line := range lines {
		if line == "" {
			if data != "" {
				dispatched = append(dispatched, event{Data: strings.TrimSuffix(data, "\n"), Type: eventType, ID: id, HasData: true})
			}
			data, eventType = "", ""
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "data":
			data += value + "\n"
		case "event":
			eventType = value
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		}
	}
	return dispatched
}

// dispatch is what a client would do with the events.
func dispatch(events []event, ids [][]byte) (out []event) {
	id := ""
	for i, ev := range events {
		if ids[i] != nil {
			id = string(ids[i])
		}
		if ev.HasData {
			out = append(out, event{Data: ev.Data, Type: ev.Type, ID: id, HasData: true})
		}
	}
	return out
}

// cut splits the stream into chunks whose sizes come from cuts.
func cut(stream, cuts []byte) (chunks [][]byte) {
	for len(stream) > 0 {
		n := len(stream)
		if len(cuts) > 0 {
			n, cuts = min(n, int(cuts[0])%17), cuts[1:]
		}
		chunks = append(chunks, slices.Clone(stream[:n]))
		stream = stream[n:]
	}
	return chunks
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{"data: a\r\n\r\ndata: b\n\n", "\xEF\xBB\xBFid: 1\rdata\r\r\n", ": c\n\ndata:x\ndata: y\n\nrest",
		"id: 1\x00\nid\nevent: e\ndata\n\n", "\xEF\xBB\n\n", "data: a\r\n\r", "\n\r\r\n\n"} {
		f.Add([]byte(s), []byte{})
		f.Add([]byte(s), []byte{1, 1, 2, 0, 1, 3, 1, 1, 1, 1, 1, 1, 1})
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		var s sse.Scanner
		var raw []byte
		var events []event
		var ids [][]byte
		for _, chunk := range cut(stream, cuts) {
			err := s.Feed(chunk, func(ev sse.Event) error {
				raw = append(raw, ev.Raw...)
				events = append(events, own(ev))
				ids = append(ids, slices.Clone(ev.ID))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			clear(chunk)
		}
		if ev, ok := s.End(); ok {
			raw = append(raw, ev.Raw...)
		}
		if !bytes.Equal(raw, stream) {
			t.Fatalf("Raw of all events %q, want %q", raw, stream)
		}
		if diff := cmp.Diff(reference(string(stream)), dispatch(events, ids)); diff != "" {
			t.Error(diff)
		}
	})
}
