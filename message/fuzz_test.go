package message_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/message"
)

// FuzzRead holds the reader against the standard library's, which takes the
// last of two members and matches names without regard to case. Whatever Read
// accepts, both must understand alike; whatever id a refusal names must be the
// one the other reader sees.
func FuzzRead(f *testing.F) {
	for _, tt := range accepted {
		f.Add([]byte(tt.body))
	}
	for _, tt := range refused {
		f.Add([]byte(tt.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		c, err := message.Read(body)
		if !bytes.Equal(body, before) {
			t.Fatalf("the body was changed from %q to %q", before, body)
		}
		if err != nil {
			checkRefusal(t, body, err)
			return
		}
		checkAgreement(t, c)
		checkDuplicates(t, c)
		again, err := message.Read(bytes.Clone(body))
		if err != nil {
			t.Fatalf("%q was refused the second time: %s", body, err.Message)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatalf("%q was read differently the second time:\n%s", body, diff)
		}
	})
}

// checkRefusal checks that the refusal is whole and its id not invented.
func checkRefusal(t *testing.T, body []byte, err *message.Error) {
	t.Helper()
	if err.Status != 400 || err.Code == 0 || err.Message == "" {
		t.Fatalf("%q: incomplete refusal %+v", body, err)
	}
	if err.ID == nil {
		return
	}
	var root map[string]json.RawMessage
	if e := json.Unmarshal(body, &root); e != nil || !bytes.Equal(root["id"], err.ID) {
		t.Fatalf("%q: refused with id %s, other readers see %s (%v)", body, err.ID, root["id"], e)
	}
	for name := range root {
		if name != "id" && strings.EqualFold(name, "id") {
			t.Fatalf("%q: refused with id %s although there is a %q", body, err.ID, name)
		}
	}
}

// foldingMessage is how a server in Go with encoding/json sees a message.
type foldingMessage struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  struct {
		Name      json.RawMessage `json:"name"`
		URI       json.RawMessage `json:"uri"`
		TaskID    json.RawMessage `json:"taskId"`
		Arguments json.RawMessage `json:"arguments"`
	} `json:"params"`
}

func checkAgreement(t *testing.T, c *message.Call) {
	t.Helper()
	var folded foldingMessage
	var exact, params map[string]json.RawMessage
	if err := json.Unmarshal(c.Body, &folded); err != nil {
		t.Fatalf("accepted %q, but the standard library: %v", c.Body, err)
	}
	if err := json.Unmarshal(c.Body, &exact); err != nil {
		t.Fatal(err)
	}
	if p := exact["params"]; p != nil {
		if err := json.Unmarshal(p, &params); err != nil {
			t.Fatal(err)
		}
	}
	same := func(what, got string, raw ...json.RawMessage) {
		t.Helper()
		for _, r := range raw {
			var s string
			if r != nil {
				if err := json.Unmarshal(r, &s); err != nil {
					t.Fatalf("%q: %s: %v", c.Body, what, err)
				}
			}
			if s != got {
				t.Fatalf("%q: %s is %q here and %q elsewhere", c.Body, what, got, s)
			}
		}
	}
	if folded.JSONRPC != "2.0" || folded.Method != c.Method || !bytes.Equal(folded.ID, c.ID) {
		t.Fatalf("%q: read as %+v, elsewhere as %+v", c.Body, c, folded)
	}
	same("method", c.Method, exact["method"])
	switch c.Method {
	case "tools/call", "prompts/get":
		same("name", c.Name, params["name"], folded.Params.Name)
		if !bytes.Equal(c.Args, params["arguments"]) || !bytes.Equal(c.Args, folded.Params.Arguments) {
			t.Fatalf("%q: arguments are %q here, %q and %q elsewhere", c.Body, c.Args, params["arguments"], folded.Params.Arguments)
		}
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		same("uri", c.URI, params["uri"], folded.Params.URI)
	case "tasks/get", "tasks/update", "tasks/cancel", "tasks/result":
		same("taskId", c.TaskID, params["taskId"], folded.Params.TaskID)
	}
	if !bytes.Equal(c.Params, exact["params"]) {
		t.Fatalf("%q: params are %q here and %q elsewhere", c.Body, c.Params, exact["params"])
	}
}

// checkDuplicates puts a second copy of a member in front of each object that
// policy reads, and behind the message a second message.
func checkDuplicates(t *testing.T, c *message.Call) {
	t.Helper()
	inject := func(object []byte, text string) {
		t.Helper()
		at := bytes.Index(c.Body, object) + 1
		body := append(append(bytes.Clone(c.Body[:at]), text...), c.Body[at:]...)
		if got, err := message.Read(body); err == nil {
			t.Fatalf("%q was accepted as %+v", body, got)
		}
	}
	inject(c.Body[bytes.IndexByte(c.Body, '{'):], `"jsonrpc":"2.0",`)
	inject(c.Body[bytes.IndexByte(c.Body, '{'):], `"J\u017fONRPC":"2.0",`)
	if c.Name != "" && c.RefType == "" {
		inject(c.Params, `"n\u0061me":"other",`)
	}
	if c.URI != "" {
		inject(c.Params, `"uri":"other",`)
	}
	if got, err := message.Read(append(bytes.Clone(c.Body), c.Body...)); err == nil {
		t.Fatalf("%q twice was accepted as %+v", c.Body, got)
	}
}

// FuzzHeaderValue checks the round trip, that what is sent is safe in a header,
// and that no two headers stand for one name unless one of them is plain.
func FuzzHeaderValue(f *testing.F) {
	for _, s := range []string{"", "a", " a", "é", "=?base64?=", "=?base64?YQ==?=", "=?base64?YR==?=", "a\tb", "\x00", "=?base64?YQ==?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if utf8.ValidString(s) {
			encoded := message.EncodeHeaderValue(s)
			for i := range len(encoded) {
				if encoded[i] < ' ' || encoded[i] > '~' {
					t.Fatalf("%q is sent as %q", s, encoded)
				}
			}
			if back, err := message.DecodeHeaderValue(encoded); err != nil || back != s {
				t.Fatalf("%q came back as %q, %v, from %q", s, back, err, encoded)
			}
		}
		value, err := message.DecodeHeaderValue(s)
		if err != nil {
			return
		}
		trimmed := strings.Trim(s, " \t")
		if value != trimmed && "=?base64?"+base64Of(value)+"?=" != trimmed {
			t.Fatalf("%q stands for %q, which is sent otherwise", s, value)
		}
	})
}

// base64Of is what EncodeHeaderValue puts between the halves of the sentinel;
// a control character in front makes sure that it does.
func base64Of(s string) string {
	const filler = "\x00\x00\x00" // three bytes are four characters: "AAAA"
	inside := strings.TrimPrefix(message.EncodeHeaderValue(filler+s), "=?base64?AAAA")
	return strings.TrimSuffix(inside, "?=")
}

// FuzzCheckHeaders checks that a modern tools/call passes only with the one
// name its body has.
func FuzzCheckHeaders(f *testing.F) {
	for _, s := range []string{"get_note", "get_note ", "Get_note", "=?base64?Z2V0X25vdGU=?=", "=?base64?Z2V0X25vdGV=?=", "", "x"} {
		f.Add(s, "tools/call", "2026-07-28")
	}
	c, err := message.Read([]byte(modern("tools/call", `"name":"get_note"`)))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, n, m, v string) {
		h := http.Header{"Mcp-Protocol-Version": {v}, "Mcp-Method": {m}, "Mcp-Name": {n}}
		trim := func(s string) string { return strings.Trim(s, " \t") }
		want := trim(v) == "2026-07-28" && trim(m) == "tools/call" &&
			(trim(n) == "get_note" || trim(n) == "=?base64?Z2V0X25vdGU=?=")
		if err := message.CheckHeaders(h, c); (err == nil) != want {
			t.Fatalf("%v: %v, want accepted %t", h, err, want)
		}
	})
}
