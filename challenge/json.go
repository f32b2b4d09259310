package challenge

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/scope"
)

// writer appends JSON whose members always come in the same order.
type writer struct {
	b []byte
	// hide401 spells the digits 401 inside strings with an escape. Gemini takes
	// them for a failed login wherever in a body they stand (DES-14).
	hide401 bool
}

// details are the members of data (DES-14). Empty ones are left out.
type details struct {
	code, description string
	scope, required   []string
	alternatives      []scope.Set
	requestID         string
}

func (w *writer) errorResponse(id jsontext.Value, code int, message string, d details) {
	w.raw(`{"jsonrpc":"2.0","id":`).id(id).raw(`,"error":{"code":`).raw(strconv.Itoa(code))
	w.raw(`,"message":`).text(message)
	w.data(d)
	w.raw(`}}`)
}

func (w *writer) data(d details) {
	start := len(w.b)
	w.member("error", d.code)
	w.member("error_description", d.description)
	w.member("scope", strings.Join(d.scope, " "))
	if len(d.required) > 0 {
		w.raw(`,"required_scopes":`).texts(d.required)
	}
	for i, set := range d.alternatives {
		if i == 0 {
			w.raw(`,"alternatives":[`)
		} else {
			w.raw(`,`)
		}
		w.texts(set)
		if i == len(d.alternatives)-1 {
			w.raw(`]`)
		}
	}
	w.member("request_id", d.requestID)
	if len(w.b) > start {
		members := bytes.Clone(w.b[start+len(","):])
		w.b = w.b[:start]
		w.raw(`,"data":{`).raw(string(members)).raw(`}`)
	}
}

// member appends a member with the comma before it, unless it is empty.
func (w *writer) member(name, value string) {
	if value != "" {
		w.raw(`,"` + name + `":`).text(value)
	}
}

func (w *writer) texts(list []string) {
	w.raw(`[`)
	for i, s := range list {
		if i > 0 {
			w.raw(`,`)
		}
		w.text(s)
	}
	w.raw(`]`)
}

// text appends a JSON string. Invalid UTF-8 is replaced with U+FFFD.
func (w *writer) text(s string) *writer {
	start := len(w.b)
	w.b, _ = jsontext.AppendQuote(w.b, s) // the error only says that something was replaced
	if w.hide401 && bytes.Contains(w.b[start:], []byte("401")) {
		escaped := bytes.ReplaceAll(w.b[start:], []byte("401"), []byte(`4\u00301`))
		w.b = append(w.b[:start], escaped...)
	}
	return w
}

// id appends a request id as it came, or null for anything that cannot be one.
func (w *writer) id(id jsontext.Value) *writer {
	if k := id.Kind(); k != '"' && k != '0' || !id.IsValid() {
		return w.raw("null")
	}
	w.b = append(w.b, bytes.TrimSpace(id)...)
	return w
}

func (w *writer) raw(s string) *writer {
	w.b = append(w.b, s...)
	return w
}
