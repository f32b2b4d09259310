package envelope_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/internal/envelope"
)

// outside is a Message with its places read.
type outside struct {
	Kind                                     envelope.Kind
	Method, ID, Token, Sub, Request, Version string
	URI, Level                               string
	LogLevel, Failed                         bool
	Code                                     int
}

func read(t *testing.T, line string) outside {
	t.Helper()
	m, err := envelope.Read([]byte(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return outside{m.Kind, m.Method, string(m.At(m.ID)), string(m.At(m.Token)), string(m.At(m.Subscription)), string(m.At(m.RequestID)),
		string(m.At(m.Version)), m.URI, m.Level, m.LogLevel, m.Failed, m.Code}
}

func TestRead(t *testing.T) {
	for line, want := range map[string]outside{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`: {Kind: envelope.Request, Method: "ping", ID: "1"},
		` { "method" : "tools\/call", "params":{"arguments":{"uri":"no","_meta":{"progressToken":2}},"_meta":{"progressToken":"t"}}, "id" : "a" } `: {
			Kind: envelope.Request, Method: "tools/call", ID: `"a"`, Token: `"t"`},
		`{"\u0069d":7,"method":"x"}`:   {Kind: envelope.Request, Method: "x", ID: "7"},
		`{"id":null,"method":"x"}`:     {Kind: envelope.Notification, Method: "x"},
		`{"id":1,"id":2,"method":"x"}`: {Kind: envelope.Request, Method: "x", ID: "2"},
		`{"method":"notifications/progress","params":{"progressToken":3,"progress":0.5}}`: {
			Kind: envelope.Notification, Method: "notifications/progress", Token: "3"},
		`{"method":"notifications/cancelled","params":{"requestId":"r","reason":"x"}}`: {
			Kind: envelope.Notification, Method: "notifications/cancelled", Request: `"r"`},
		`{"method":"notifications/resources/updated","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":9},"uri":"note:\/\/1"}}`: {
			Kind: envelope.Notification, Method: "notifications/resources/updated", Sub: "9", URI: "note://1"},
		`{"id":1,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"s"},"uri":"x","protocolVersion":"2025-11-25"}}`: {
			Kind: envelope.Response, ID: "1", Sub: `"s"`, Version: `"2025-11-25"`},
		`{"id":1,"error":{"message":"no","code":-32601}}`:   {Kind: envelope.Response, ID: "1", Failed: true, Code: -32601},
		`{"id":null,"error":{"code":-32700,"message":"x"}}`: {Kind: envelope.Response, Failed: true, Code: -32700},
		`{"id":1,"result":[]}`:                              {Kind: envelope.Response, ID: "1"},
		`{"id":1,"error":"odd"}`:                            {Kind: envelope.Response, ID: "1", Failed: true},
		`{"method":"notifications/message","params":{"level":"info","data":1}}`: {
			Kind: envelope.Notification, Method: "notifications/message", Level: "info"},
		`{"id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}`: {
			Kind: envelope.Request, ID: "1", Method: "initialize", Version: `"2025-06-18"`},
		`{"id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/logLevel":"debug"}}}`: {
			Kind: envelope.Request, ID: "1", Method: "x", LogLevel: true},
		`{"id":1,"method":"x","params":[{"uri":"x"}]}`: {Kind: envelope.Request, ID: "1", Method: "x"},
		"{\"id\":1,\"result\":{\"t\":\"\xff\"}}":       {Kind: envelope.Response, ID: "1"},
	} {
		if diff := cmp.Diff(want, read(t, line)); diff != "" {
			t.Errorf("%s\n%s", line, diff)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, line := range []string{``, `{`, `{"id":1}`, `{"id":1,"method":"x"`, `[]`, `"x"`, `null`, `{}{}`, `{"id":1,"method":"x"} x`,
		`{"id":1,"result":{},"error":{}}`, `{"result":{}}`, `{"method":""}`, `{"method":1,"id":1}`, `{"id":1,"method":"x","params":{"a":}}`} {
		if m, err := envelope.Read([]byte(line)); err == nil {
			t.Errorf("%s was taken for %+v", line, m)
		}
	}
}

func TestSplit(t *testing.T) {
	got, err := envelope.Split([]byte(` [ {"id":1,"result":{}} , {"method":"x"}] `))
	want := [][]byte{[]byte(`{"id":1,"result":{}}`), []byte(`{"method":"x"}`)}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, line := range []string{`{}`, `[{}`, `[] []`, `[{]`, ``} {
		if got, err := envelope.Split([]byte(line)); err == nil {
			t.Errorf("%s was split into %q", line, got)
		}
	}
}

func TestReplace(t *testing.T) {
	m, err := envelope.Read([]byte(`{"params":{"_meta":{"progressToken":"t"},"x":"é\n"},"id": 12 ,"method":"m"}`))
	if err != nil {
		t.Fatal(err)
	}
	got := m.Replace(envelope.Edit{At: m.ID, With: []byte("3")}, envelope.Edit{At: m.Token, With: []byte("4")}, envelope.Edit{At: m.RequestID, With: []byte("5")})
	if want := `{"params":{"_meta":{"progressToken":4},"x":"é\n"},"id": 3 ,"method":"m"}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := m.Replace(); !bytes.Equal(got, m.Raw) {
		t.Errorf("nothing to be done gave %s", got)
	}
}

func TestKey(t *testing.T) {
	for _, same := range [][]string{{"1", "1.0", "1e0", "10e-1"}, {`"a"`, `"\u0061"`}, {`"1"`}, {"0", "-0"}, {"9007199254740993"}, {"1.5"}, {`"1.0"`}, {`"\"1"`}} {
		for _, id := range same {
			if envelope.Key([]byte(id)) != envelope.Key([]byte(same[0])) {
				t.Errorf("%s and %s are not the same", id, same[0])
			}
		}
	}
	seen := map[string]string{}
	for _, id := range []string{"1", `"1"`, "-1", "1.5", `"a"`, `"\"a"`, `"1.0"`, "2", "9007199254740993", "9007199254740992"} {
		key := envelope.Key([]byte(id))
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s are the same", id, other)
		}
		seen[key] = id
	}
}

// FuzzRead holds what is read against a decoder that reads everything, and a
// replaced id against the rest of the message.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"progressToken":1},"uri":"x"}}`,
		`{"id":"a","result":{"protocolVersion":"x","_meta":{"io.modelcontextprotocol/subscriptionId":1}}}`, `{"id":1,"error":{"code":-1}}`, `[]`, `{"id":1.5,"method":"\u0000"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := envelope.Read(line)
		if err != nil {
			return
		}
		if !json.Valid(line) {
			t.Fatalf("not JSON: %q", line)
		}
		out := m.Replace(envelope.Edit{At: m.ID, With: []byte(`"another"`)})
		again, err := envelope.Read(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", line, out, err)
		}
		if m.ID.Exists() && again.Text(again.ID) != "another" {
			t.Errorf("the id of %q is %q", out, again.At(again.ID))
		}
		if again.Method != m.Method || again.Kind != m.Kind || !bytes.Equal(again.At(again.Token), m.At(m.Token)) || again.URI != m.URI {
			t.Errorf("%q became another message: %q", line, out)
		}
	})
}

// FuzzGrammar wants exactly what the standard library takes for JSON.
func FuzzGrammar(f *testing.F) {
	for _, seed := range []string{`{}`, `[1,-0,0.5e+3,true,false,null]`, `"\u00e9\n\/ plain text that is long"`, `"\x"`, `"\u00g0"`, `01`, `1.`, `-`, `[1,]`,
		`{"a":1,}`, `{"a" : [ ] , "b":{}}`, `{1:2}`, `tru`, "\"\x1f\"", "\"12345678\x00\"", "\"\xff\xfe\"", `"1234567\`, `[[[[]]]`, `1},"x":{"y":1`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		line := []byte(`{"id":1,"result":` + value + `}`)
		_, err := envelope.Read(line)
		valid := json.Valid(line)
		if valid && err != nil && err.Error() == "no JSON" || !valid && err == nil {
			t.Errorf("valid %t, and Read says %v of %q", valid, err, line)
		}
	})
}

func TestGlimpse(t *testing.T) {
	for _, c := range []struct {
		head, tail, id string
		response       bool
	}{
		{`{"jsonrpc":"2.0","id":7,"result":{"text":"long`, `end"}}`, `7`, true},
		{`{"result":{"text":"long`, `end"},"jsonrpc":"2.0","id":"a\"b"}`, `"a\"b"`, true},
		{`{"result":{"text":"long`, `end"}, "id" : -7 } `, `-7`, true},
		{`{"result":{"text":"long`, `"id":7}}`, ``, true},
		{`{"result":{"text":"long`, `end`, ``, true},
		{`{"method":"notifications/message","params":{"data":"long`, `more"}}`, ``, false},
		{`{"method":"tools/call","params":{"name":"long`, `},"jsonrpc":"2.0","id":7}`, `7`, false},
		{`{"id":8,"method":"tools/call","params":{"name":"long`, `"id":7}`, `8`, false},
		{`{"jsonrpc":"2.0","id":12`, `3`, ``, true},
		{`noise`, `noise`, ``, true},
		{``, ``, ``, true},
	} {
		id, response := envelope.Glimpse([]byte(c.head), []byte(c.tail))
		if string(id) != c.id || response != c.response {
			t.Errorf("%s...%s: id %s, a response: %t", c.head, c.tail, id, response)
		}
	}
}

func TestDeepMessagesAreRefused(t *testing.T) {
	for depth, ok := range map[int]bool{900: true, 1_000_000: false} {
		line := `{"id":1,"result":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`
		if _, err := envelope.Read([]byte(line)); (err == nil) != ok {
			t.Errorf("%d deep: %v", depth, err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	line := []byte(`{"jsonrpc":"2.0","id":"000000000007","result":{"content":[{"type":"text","text":"` + strings.Repeat("Nobody minds the quick brown fox. ", 60) + `"}]}}`)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	var m envelope.Message
	for b.Loop() {
		if err := m.Read(line); err != nil {
			b.Fatal(err)
		}
	}
}
