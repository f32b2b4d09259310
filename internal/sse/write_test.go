package sse_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/internal/sse"
)

func TestFormat(t *testing.T) {
	tests := []struct{ name, id, eventType, data, want string }{
		{"data only", "", "", "{}", "data: {}\n\n"},
		{"all", "7", "message", "{}", "id: 7\nevent: message\ndata: {}\n\n"},
		{"lines", "", "", "a\nb\r\nc\rd", "data: a\ndata: b\ndata: c\ndata: d\n\n"},
		{"empty", "", "", "", "data: \n\n"},
		{"last line end", "", "", "a\n", "data: a\ndata: \n\n"},
		{"leading space", "", "", " a", "data:  a\n\n"},
		{"injected field", "1\ndata: x", "m\revent: y", "{}", "id: 1\nevent: m\ndata: {}\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(sse.Format(tt.id, tt.eventType, []byte(tt.data))); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestReplaceData(t *testing.T) {
	tests := []struct {
		name, raw, data, want string
		none                  bool
	}{
		{name: "plain", raw: "data: old\n\n", data: "new", want: "data: new\n\n"},
		{name: "other lines stay", raw: ": c\nid: 1\nevent: m\ndata: old\nretry: 5\nx: y\n\n", data: "new",
			want: ": c\nid: 1\nevent: m\ndata: new\nretry: 5\nx: y\n\n"},
		{name: "several lines become one", raw: "data: a\nid: 1\ndata: b\n\n", data: "new", want: "data: new\nid: 1\n\n"},
		{name: "one becomes several", raw: "data: a\r\n\r\n", data: "b\nc", want: "data: b\r\ndata: c\r\n\r\n"},
		{name: "CR", raw: "id: 1\rdata: a\r\r", data: "b", want: "id: 1\rdata: b\r\r"},
		{name: "BOM", raw: "\xEF\xBB\xBFdata: a\n\n", data: "b", want: "\xEF\xBB\xBFdata: b\n\n"},
		{name: "line end of the event before", raw: "\ndata: a\n\n", data: "b", want: "\ndata: b\n\n"},
		{name: "no data line", raw: "id: 1\n\n", data: "b", want: "id: 1\ndata: b\n\n"},
		{name: "no blank line", raw: "data: a", data: "b", want: "data: b\n\n"},
		{name: "no blank line after CR", raw: "data: a\r", data: "b", want: "data: b\r\n\n"},
		{name: "without data", raw: "id: 1\ndata: a\n\n", none: true, want: "id: 1\n\n"},
		{name: "LF does not join CR", raw: "id: 1\rdata: a\n\n", none: true, want: "id: 1\r\n\n"},
		{name: "empty data", raw: "data: a\n\n", want: "data: \n\n"},
		{name: "name without colon", raw: "data\n\n", data: "b", want: "data: b\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := []byte(tt.data)
			if tt.none {
				data = nil
			}
			if got := string(sse.ReplaceData([]byte(tt.raw), data)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// lines is data as it comes back through an event stream.
func lines(data string) string {
	return strings.ReplaceAll(strings.ReplaceAll(data, "\r\n", "\n"), "\r", "\n")
}

// telling leaves out the events that change nothing at a client: blank lines. One
// of them may become the second half of a line end that a CR began.
func telling(events []event) []event {
	return slices.DeleteFunc(events, func(ev event) bool { return ev == event{BOM: ev.BOM} })
}

// FuzzReplaceData holds that of every event of any stream only the data changes,
// also after the stream has been cut there and put together again.
func FuzzReplaceData(f *testing.F) {
	f.Add("id: 1\rdata: a\n\ndata: x\r\n\r\n", "new", false)
	f.Add("\xEF\xBB\xBFdata: a\ndata\n\n: c\n\nevent: e\ndata", "a\r\nb", false)
	f.Add("id: 1\rdata: a\n\ndata: b\r\n", "", true)
	f.Fuzz(func(t *testing.T, stream, data string, none bool) {
		replacement := []byte(data)
		if none {
			replacement = nil
		}
		before, rest := scan(t, &sse.Scanner{}, stream)
		if rest != "" {
			before, _ = scan(t, &sse.Scanner{}, stream+"\n\n") // so that all of it is events
			stream += "\n\n"
		}
		var replaced strings.Builder
		var want []event
		for _, ev := range before {
			if !ev.HasData {
				replaced.WriteString(ev.Raw)
			} else {
				replaced.Write(sse.ReplaceData([]byte(ev.Raw), replacement))
				ev.Data, ev.HasData = lines(data), !none
				if none {
					ev.Data = ""
				}
			}
			ev.Raw = ""
			want = append(want, ev)
		}
		got, rest := scan(t, &sse.Scanner{}, replaced.String())
		for i := range got {
			got[i].Raw = ""
		}
		if diff := cmp.Diff(telling(want), telling(got)); diff != "" || rest != "" {
			t.Errorf("from %q to %q, rest %q:\n%s", stream, replaced.String(), rest, diff)
		}
	})
}

func TestReplaceID(t *testing.T) {
	tests := []struct{ name, raw, id, want string }{
		{"plain", "id: 1\ndata: a\n\n", "new", "id: new\ndata: a\n\n"},
		{"other lines stay", ": c\nevent: m\nid:1\r\ndata: a\n\n", "new", ": c\nevent: m\nid: new\r\ndata: a\n\n"},
		{"several become one", "id: 1\ndata: a\nid: 2\rid\n\n", "new", "id: new\ndata: a\n\n"},
		{"taken away", "id: 1\ndata: a\n\n", "", "data: a\n\n"},
		{"BOM", "\xEF\xBB\xBFid: 1\n\n", "new", "\xEF\xBB\xBFid: new\n\n"},
		{"LF does not join CR", "data: a\rid: 1\n\n", "", "data: a\r\n\n"},
		{"no blank line", "id: 1", "new", "id: new\n"},
		{"none", "data: id: 1\n\n", "new", "data: id: 1\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(sse.ReplaceID([]byte(tt.raw), []byte(tt.id))); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
