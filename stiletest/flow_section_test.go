package stiletest

import (
	"reflect"
	"testing"
)

var sections = []struct {
	text string
	want flowSection
}{
	{"nothing\n", flowSection{first: "nothing"}},
	{"GET /\n", flowSection{first: "GET /"}},
	{"POST /\nA: 1\nB: 2\n!C\n\nbody\n", flowSection{first: "POST /", header: []string{"A: 1", "B: 2"}, absent: []string{"C"}, body: "body"}},
	{"POST /\nA: 1\nA: 2\n\n{\n\n}\n\n", flowSection{first: "POST /", header: []string{"A: 1", "A: 2"}, body: "{\n\n}\n"}},
	{"HTTP/1.1 200 OK\n! X-Y \n", flowSection{first: "HTTP/1.1 200 OK", absent: []string{"X-Y"}}},
	{"HTTP/1.1 200 OK\n\nno line break at the end", flowSection{first: "HTTP/1.1 200 OK", body: "no line break at the end"}},
	{"", flowSection{}},
}

func TestParseSection(t *testing.T) {
	for _, test := range sections {
		if got := parseSection(test.text); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: %+v, want %+v", test.text, got, test.want)
		}
	}
}

// FuzzSection: what is written of a section reads as the same section, so that
// -update can never spoil a transcript.
func FuzzSection(f *testing.F) {
	for _, s := range sections {
		f.Add(s.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once := parseSection(text)
		if twice := parseSection(once.String()); !reflect.DeepEqual(once, twice) {
			t.Errorf("%q reads as %+v and, once written, as %+v", text, once, twice)
		}
	})
}

func TestRequestBytes(t *testing.T) {
	tests := []struct{ text, want string }{
		{"GET /\n", "GET / HTTP/1.1\r\nHost: here\r\n\r\n"},
		{"GET / HTTP/1.0\nhost: there\n", "GET / HTTP/1.0\r\nhost: there\r\n\r\n"},
		{"POST /\nX: 1\n\nab\n", "POST / HTTP/1.1\r\nHost: here\r\nX: 1\r\nContent-Length: 2\r\n\r\nab"},
		{"POST /\ncontent-length: 9\n\nab\n", "POST / HTTP/1.1\r\nHost: here\r\ncontent-length: 9\r\n\r\nab"},
		{"POST /\nTransfer-Encoding: chunked\n\n2\r\nab\r\n0\r\n\r\n\n", "POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"},
	}
	for _, test := range tests {
		if got := parseSection(test.text).bytes("here"); got != test.want {
			t.Errorf("%q is sent as %q, want %q", test.text, got, test.want)
		}
	}
}

func TestPattern(t *testing.T) {
	tests := []struct {
		pattern, text string
		want          map[string]string // nil: no match
	}{
		{"a.b", "a.b", map[string]string{}},
		{"a.b", "axb", nil},
		{"a", "a\n", nil},
		{"${ANY}", "", map[string]string{}},
		{"<${ANY}>", "<a>b>", map[string]string{}},
		{"<${ANY}>", "<a\n>", nil},
		{"${X=}", "word", map[string]string{"X": "word"}},
		{"${X=}", "two words", nil},
		{`"${X=}","${X=}"`, `"a","a"`, map[string]string{"X": "a"}},
		{`"${X=}","${X=}"`, `"a","b"`, nil},
		{"${REQUEST_ID} ${REQUEST_ID}", "a a", map[string]string{"REQUEST_ID": "a"}},
		{"${REQUEST_ID} ${REQUEST_ID}", "a b", nil},
		{"${KNOWN}", "val.ue", map[string]string{}},
		{"${KNOWN}", "valxue", nil},
		{"${lower} $KNOWN {ANY}", "${lower} $KNOWN {ANY}", map[string]string{}},
	}
	v := newVariables(FlowEnv{Vars: map[string]string{"KNOWN": "val.ue"}}, "http://127.0.0.1:1")
	for _, test := range tests {
		p, err := v.compile(test.pattern, `\z`)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.match(test.text)
		if (err == nil) != (test.want != nil) || err == nil && !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q on %q: %v %v, want %v", test.pattern, test.text, got, err, test.want)
		}
	}
	for _, bad := range []string{"${UNKNOWN}", "${TOKEN}", "${TOKEN:scopes=a}", "${TOKEN=}", "${ANY:x}"} {
		if _, err := v.compile(bad, ""); err == nil {
			t.Errorf("%s compiles", bad)
		}
	}
}
