package mirror_test

import (
	"net/http"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/mirror"
)

func TestIn(t *testing.T) {
	const schema = `{"type":"object","properties":{
		"region":{"type":"string","x-mcp-header":"Region"},
		"deep":{"properties":{"n":{"type":"integer","x-mcp-header":"Deep-N"}}},
		"bad":{"x-mcp-header":"no good"},
		"list":{"items":{"x-mcp-header":"Never"}}}}`
	found := map[string][]string{}
	for _, a := range mirror.In(jsontext.Value(schema)) {
		found[a.Header] = a.Path
	}
	if len(found) != 2 || len(found["Mcp-Param-Region"]) != 1 || len(found["Mcp-Param-Deep-N"]) != 2 {
		t.Errorf("found %v", found)
	}
	if got := mirror.In(jsontext.Value(`[1]`)); got != nil {
		t.Errorf("of no object: %v", got)
	}
}

func TestMismatch(t *testing.T) {
	a := mirror.Argument{Header: "Mcp-Param-X", Path: []string{"deep", "x"}}
	for _, c := range []struct {
		arguments string
		sent      []string
		ok        bool
	}{
		{`{"deep":{"x":"a"}}`, []string{"a"}, true},
		{`{"deep":{"x":"é"}}`, []string{"=?base64?w6k=?="}, true},
		{`{"deep":{"x":"a"}}`, []string{"b"}, false},
		{`{"deep":{"x":"a"}}`, nil, false},
		{`{"deep":{"x":"a"}}`, []string{"a", "a"}, false},
		{`{"deep":{"x":42}}`, []string{"42.0"}, true},
		{`{"deep":{"x":42}}`, []string{"0x2a"}, false},
		{`{"deep":{"x":true}}`, []string{"true"}, true},
		{`{"deep":{"x":[1]}}`, []string{"[1]"}, false},
		{`{"deep":{"x":null}}`, nil, true},
		{`{}`, nil, true},
		{`{}`, []string{"a"}, false},
	} {
		if text := a.Mismatch(c.sent, a.Value(jsontext.Value(c.arguments))); (text == "") != c.ok {
			t.Errorf("%s with %q: %q", c.arguments, c.sent, text)
		}
	}
}

// FuzzText: a header made of a value agrees with it.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", " a ", "é", "=?base64??="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		value, err := jsontext.AppendQuote(nil, s)
		if err != nil {
			return
		}
		a := mirror.Argument{Header: http.CanonicalHeaderKey("Mcp-Param-X"), Path: []string{"x"}}
		text, ok := mirror.Text(value)
		if !ok || text != s {
			t.Fatalf("Text(%s) = %q, %t", value, text, ok)
		}
		if wrong := a.Mismatch(nil, value); wrong == "" {
			t.Error("a header that is missing agrees")
		}
	})
}
