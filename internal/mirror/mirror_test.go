package mirror_test

import (
	"maps"
	"net/http"
	"slices"
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

func TestTable(t *testing.T) {
	var table mirror.Table
	if next := table.Learn(jsontext.Value(`{"tools":[{"name":"sql","inputSchema":{"properties":{"region":{"x-mcp-header":"Region"}}}},{"name":"plain","inputSchema":{}}],"nextCursor":"2"}`)); next != "2" {
		t.Errorf("next page %q", next)
	}
	for _, c := range []struct {
		method, params string
		want           http.Header
	}{
		{"tools/call", `{"name":"sql","arguments":{"region":"grün"}}`, http.Header{"Mcp-Name": {"sql"}, "Mcp-Param-Region": {"=?base64?Z3LDvG4=?="}}},
		{"tools/call", `{"name":"sql","arguments":{"region":null}}`, http.Header{"Mcp-Name": {"sql"}}},
		{"tools/call", `{"name":"plain","arguments":{"region":"x"}}`, http.Header{"Mcp-Name": {"plain"}}},
		{"prompts/get", `{"name":"p"}`, http.Header{"Mcp-Name": {"p"}}},
		{"resources/read", `{"uri":"note://1","name":"no"}`, http.Header{"Mcp-Name": {"note://1"}}},
		{"tasks/get", `{"taskId":"7"}`, http.Header{"Mcp-Name": {"7"}}},
		{"tools/list", `{"name":"no"}`, http.Header{}},
		{"acme/x", ``, http.Header{}},
	} {
		got := http.Header{}
		table.Set(got, c.method, jsontext.Value(c.params))
		c.want.Set("Mcp-Method", c.method)
		if !maps.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%s %s: %v, want %v", c.method, c.params, got, c.want)
		}
	}
	table.Learn(jsontext.Value(`{"tools":[{"name":"sql"}]}`))
	got := http.Header{}
	if table.Set(got, "tools/call", jsontext.Value(`{"name":"sql","arguments":{"region":"x"}}`)); got.Get("Mcp-Param-Region") != "" {
		t.Errorf("a tool that no longer wants it: %v", got)
	}
}
