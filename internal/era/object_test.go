package era

import (
	"bytes"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// TestBytesStay: what is not of the envelope is the bytes it was, spaces and escapes
// and all.
func TestBytesStay(t *testing.T) {
	const arguments = `{ "a" :1.0e0, "b":"\u00e9\/", "a": [ null ] }`
	params := jsontext.Value(`{"arguments":` + arguments + `,"_meta":{"` + metaVersion + `":"2026-07-28","` + metaCapabilities + `":{},"own":{ }},"name":"x"}`)
	w, rest := unwrap(params)
	if got := string(rest.bytes()); got != `{"arguments":`+arguments+`,"_meta":{"own":{ }},"name":"x"}` {
		t.Errorf("unwrapped: %s", got)
	}
	w.version = Modern2026
	back := w.wrap(rest).bytes()
	if !bytes.Contains(back, []byte(arguments)) || lenient(lenient(back).get("_meta")).text(metaVersion) != Modern2026 {
		t.Errorf("wrapped: %s", back)
	}
	result, ok := resultToModern("tools/call", jsontext.Value(`{"content":`+arguments+`}`), nil)
	if !ok || !bytes.Contains(result, []byte(arguments)) {
		t.Errorf("result: %s", result)
	}
}

// FuzzObject: an object read and written is the same object; a member put in is the
// only one of its name; whatever else is in it stays as it was.
func FuzzObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `{ "a" : [1,2] , "resultType":"x","a":{} }`, `{"\u0061":"\ud83d"}`, `[1]`, `{"a":1}x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := readObject([]byte(s))
		if err != nil {
			return
		}
		with := o.with("resultType", []byte(`"complete"`)).bytes()
		again, err := readObject(with)
		if err != nil {
			t.Fatalf("%q became %q: %v", s, with, err)
		}
		count := 0
		for _, m := range again {
			if m.name == "resultType" {
				count++
			}
		}
		if count != 1 || again.text("resultType") != "complete" {
			t.Fatalf("%q became %q", s, with)
		}
		before, after := o.without("resultType"), again.without("resultType")
		if !bytes.Equal(before.bytes(), after.bytes()) {
			t.Fatalf("%q became %q", before.bytes(), after.bytes())
		}
	})
}

// FuzzDigest: a call and the same call with another envelope have one digest; a call
// with other arguments has another.
func FuzzDigest(f *testing.F) {
	f.Add(`{"name":"x","arguments":{"a":1}}`, `"y"`)
	f.Add(`{"name":"x","arguments":{"a":[1,{"b":2}]},"_meta":{}}`, `1`)
	f.Fuzz(func(t *testing.T, s, other string) {
		o, err := readObject([]byte(s))
		if err != nil {
			return
		}
		d := same("tools/call", o)
		if same("tools/call", o.with("_meta", []byte(`{"k":1}`)).with("requestState", []byte(`"s"`)).with("inputResponses", []byte("{}"))) != d {
			t.Error("the envelope is part of it")
		}
		if same("prompts/get", o) == d {
			t.Error("the method is no part of it")
		}
		a, b := jsontext.Value(other), o.get("arguments").Clone()
		if len(b) > 0 && a.Canonicalize() == nil && b.Canonicalize() == nil {
			if (same("tools/call", o.with("arguments", a)) == d) != bytes.Equal(a, b) {
				t.Errorf("arguments %s and %s", a, b)
			}
		}
	})
}
