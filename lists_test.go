package stile_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// listed are the four lists, each with an entry for everyone, one that needs a
// step-up, and one that nobody is ever let to.
var listed = []struct {
	method, member, key    string
	open, more, impossible string
}{
	{"tools/list", "tools", "name", "list_notes", "delete_note", "drop_everything"},
	{"resources/list", "resources", "uri", "note://mine", "note://index", "secret://plan"},
	{"resources/templates/list", "resourceTemplates", "uriTemplate", "note://{id}", "tag://{id}", "secret://{id}"},
	{"prompts/list", "prompts", "name", "summarise", "translate", "confess"},
}

const listPolicy = `
baseline: notes:read
rules:
  - tools: [list_notes]
    scopes: notes:read
  - tools: [delete_note]
    scopes: notes:write
  - tools: [drop_everything]
    deny: "no"
  - resources: ["note://index"]
    scopes: notes:write
  - resources: ["note://{id}"]
    scopes: notes:read
  - resources: ["tag://{id}"]
    scopes: notes:write
  - prompts: [summarise]
    scopes: notes:read
  - prompts: [translate]
    scopes: notes:write
`

// Whatever form an upstream gives its list, what must not be seen is not sent to
// the client, and neither are the bytes around it broken.
func TestListsAreFiltered(t *testing.T) {
	header := func(next http.HandlerFunc, set ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(set); i += 2 {
				w.Header().Set(set[i], set[i+1])
			}
			next(w, r)
		}
	}
	raw := func(status int, chunks ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			for _, c := range chunks {
				more(w, c)
			}
		}
	}
	split := func(s string) []string {
		var out []string
		for len(s) > 9 {
			out, s = append(out, s[:9]), s[9:]
		}
		return append(out, s)
	}
	event := func(s string) string { return "event: message\nid: 5\ndata: " + s + "\n\n" }
	forms := map[string]func(list string) http.HandlerFunc{
		"JSON":       func(l string) http.HandlerFunc { return stiletest.AnswerJSON(http.StatusOK, l) },
		"status 201": func(l string) http.HandlerFunc { return stiletest.AnswerJSON(http.StatusCreated, l) },
		"status 206": func(l string) http.HandlerFunc { return stiletest.AnswerJSON(http.StatusPartialContent, l) },
		"status 400": func(l string) http.HandlerFunc { return stiletest.AnswerJSON(http.StatusBadRequest, l) },
		"status 500": func(l string) http.HandlerFunc { return stiletest.AnswerJSON(http.StatusInternalServerError, l) },
		"odd case": func(l string) http.HandlerFunc {
			return header(raw(200, l), "Content-Type", "APPLICATION/Json; Charset=UTF-8")
		},
		"text/plain": func(l string) http.HandlerFunc { return header(raw(200, l), "Content-Type", "text/plain") },
		"unknown type": func(l string) http.HandlerFunc {
			return header(raw(200, l), "Content-Type", "application/vnd.acme+json")
		},
		"no type": func(l string) http.HandlerFunc { return raw(200, l) },
		"chunks": func(l string) http.HandlerFunc {
			return header(raw(200, split(l)...), "Content-Type", "application/json")
		},
		"spaces before":   func(l string) http.HandlerFunc { return stiletest.AnswerJSON(http.StatusOK, "\r\n\t "+l) },
		"byte order mark": func(l string) http.HandlerFunc { return stiletest.AnswerJSON(http.StatusOK, "\ufeff"+l) },
		"SSE":             func(l string) http.HandlerFunc { return stiletest.AnswerSSE(event(l)) },
		"SSE in chunks":   func(l string) http.HandlerFunc { return stiletest.AnswerSSE(split(event(l))...) },
		"SSE odd case": func(l string) http.HandlerFunc {
			return header(raw(200, event(l)), "Content-Type", "Text/EVENT-stream;charset=x")
		},
		"SSE named JSON": func(l string) http.HandlerFunc { return header(raw(200, event(l)), "Content-Type", "application/json") },
		"SSE status 201": func(l string) http.HandlerFunc {
			return header(raw(201, event(l)), "Content-Type", "text/event-stream")
		},
		"SSE after others": func(l string) http.HandlerFunc { return stiletest.AnswerSSE(": hi\n\n", event(progress), event(l)) },
		"SSE in many lines": func(l string) http.HandlerFunc {
			return stiletest.AnswerSSE("data: " + strings.ReplaceAll(l, ",{", ",\ndata: {") + "\n\n")
		},
		"SSE with CR":     func(l string) http.HandlerFunc { return stiletest.AnswerSSE("data:" + l + "\r\r") },
		"SSE without end": func(l string) http.HandlerFunc { return stiletest.AnswerSSE("data: " + l) },
		"JSON named SSE":  func(l string) http.HandlerFunc { return header(raw(200, l), "Content-Type", "text/event-stream") },
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			var upstream http.HandlerFunc
			f := newFixture(t, listPolicy, func(w http.ResponseWriter, r *http.Request) { upstream(w, r) })
			granted := newFixture(t, listPolicy+"list: granted\n", func(w http.ResponseWriter, r *http.Request) { upstream(w, r) })
			for _, l := range listed {
				upstream = form(listOf(l.member, l.key, l.open, l.more, l.impossible, false))
				for _, era := range []string{era2025, era2026} {
					w := do(t, f.gateway, rpc(era, f.token("notes:read"), l.method, ""))
					checkSeen(t, era+" "+l.method, w.Body.Bytes(), []string{l.open, l.more}, []string{l.impossible})
					w = do(t, granted.gateway, rpc(era, granted.token("notes:read"), l.method, ""))
					checkSeen(t, era+" granted "+l.method, w.Body.Bytes(), []string{l.open}, []string{l.more, l.impossible})
					w = do(t, granted.gateway, rpc(era, granted.token("notes:read notes:write"), l.method, ""))
					checkSeen(t, era+" granted more "+l.method, w.Body.Bytes(), []string{l.open, l.more}, []string{l.impossible})
					if private := bytes.Contains(w.Body.Bytes(), []byte(`"cacheScope":"private"`)); private != (era == era2026) {
						t.Errorf("%s %s: private %t: %s", era, l.method, private, w.Body)
					}
				}
			}
		})
	}
}

// listOf is a list answer with three entries. The last name may be escaped.
func listOf(member, key, a, b, c string, escaped bool) string {
	entry := func(name string) string { return fmt.Sprintf(`{"title":"t","%s":"%s"}`, key, name) }
	last := c
	if escaped {
		last = fmt.Sprintf(`\u%04x%s`, c[0], c[1:])
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"result":{"%s":[%s,%s,%s]}}`, member, entry(a), entry(b), entry(last))
}

// checkSeen wants some names in an answer and others nowhere.
func checkSeen(t *testing.T, what string, body []byte, seen, hidden []string) {
	t.Helper()
	for _, name := range seen {
		if !bytes.Contains(body, []byte(`"`+name+`"`)) {
			t.Errorf("%s: %s is missing: %s", what, name, printable(body))
		}
	}
	for _, name := range hidden {
		if bytes.Contains(body, []byte(name[1:])) {
			t.Errorf("%s: %s is there: %s", what, name, printable(body))
		}
	}
}

// A list that cannot be read without doubt is not sent at all.
func TestListsThatCannotBeRead(t *testing.T) {
	good := listOf("tools", "name", "list_notes", "delete_note", "drop_everything", false)
	for name, list := range map[string]string{
		"cut off":         good[:len(good)-2],
		"list twice":      strings.Replace(good, `"result":{`, `"result":{"tools":[],`, 1),
		"result twice":    strings.Replace(good, `"result"`, `"result":{},"result"`, 1),
		"other case":      strings.Replace(good, `"tools"`, `"Tools"`, 1),
		"entry's name":    strings.Replace(good, `"name":"drop_everything"`, `"name":"list_notes","name":"drop_everything"`, 1),
		"trailing":        good + good,
		"an array of it":  "[" + good + "]",
		"UTF-16":          utf16(good),
		"not UTF-8":       strings.Replace(good, `"title":"t"`, "\"title\":\"\xff\"", 1),
		"no JSON":         "<html>drop_everything</html>",
		"gibberish":       "drop_everything",
		"list is a map":   `{"jsonrpc":"2.0","id":7,"result":{"tools":{"drop_everything":{}}}}`,
		"list is a word":  `{"jsonrpc":"2.0","id":7,"result":{"tools":"drop_everything"}}`,
		"entry is a word": `{"jsonrpc":"2.0","id":7,"result":{"tools":["drop_everything"]}}`,
		"name is a list":  `{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":["drop_everything"]}]}}`,
		"escaped":         listOf("tools", "name", "list_notes", "delete_note", "drop_everything", true),
	} {
		for _, sse := range []bool{false, true} {
			if sse && !strings.Contains(list, "{") && !strings.HasPrefix(list, "\xFE") {
				continue // an event that is no JSON is a list to nobody
			}
			f := newFixture(t, listPolicy, func(w http.ResponseWriter, r *http.Request) {
				if sse {
					stiletest.AnswerSSE("data: "+strings.ReplaceAll(list, "\n", "\ndata: ")+"\n\n")(w, r)
					return
				}
				stiletest.AnswerJSON(http.StatusOK, list)(w, r)
			})
			w := do(t, f.gateway, rpc(era2025, f.token("notes:read"), "tools/list", ""))
			if strings.Contains(strings.ReplaceAll(w.Body.String(), "\x00", ""), "rop_everything") {
				t.Errorf("%s, SSE %t: %d %s", name, sse, w.Code, printable(w.Body.Bytes()))
			}
		}
	}
}

func utf16(s string) string {
	b := []byte{0xFE, 0xFF}
	for _, c := range []byte(s) {
		b = append(b, 0, c)
	}
	return string(b)
}

// An upstream may replay an answer on the GET stream of a client that lost its
// connection (Last-Event-ID). A list is a list there too.
func TestReplayedListsAreFiltered(t *testing.T) {
	for _, l := range listed {
		answer := listOf(l.member, l.key, l.open, l.more, l.impossible, false)
		for name, replay := range map[string]string{
			"as it was":         answer,
			"in an array":       "[" + answer + "]",
			"behind a notice":   "[" + progress + "," + answer + "]",
			"other id":          strings.Replace(answer, `"id":7`, `"id":"abc"`, 1),
			"spaces":            strings.ReplaceAll(answer, `":`, `" : `),
			"escaped member":    strings.Replace(answer, `"`+l.member+`"`, fmt.Sprintf(`"\u%04x%s"`, l.member[0], l.member[1:]), 1),
			"escaped result":    strings.Replace(answer, `"result"`, `"r\u0065sult"`, 1),
			"escaped in array":  "[" + strings.Replace(answer, `"result"`, `"r\u0065sult"`, 1) + "]",
			"escaped mark":      "\ufeff[" + answer + "]",
			"with another list": strings.Replace(answer, `"result":{`, `"result":{"prompts2":[],`, 1),
		} {
			var lastEvent string
			f := newFixture(t, listPolicy, func(w http.ResponseWriter, r *http.Request) {
				lastEvent = r.Header.Get("Last-Event-ID")
				stiletest.AnswerSSE("id: 1\ndata: "+changed+"\n\n", "id: 2\ndata: "+replay+"\n\n", "id: 3\ndata: "+changed+"\n\n")(w, r)
			})
			first := do(t, f.gateway, stream(f.token("notes:read")))
			w := do(t, f.gateway, stream(f.token("notes:read")).with("Last-Event-Id", eventIDs(first.Body.String())[0]))
			if w.Code != http.StatusOK || lastEvent != "1" {
				t.Fatalf("%d, the upstream saw Last-Event-ID %q", w.Code, lastEvent)
			}
			checkSeen(t, l.method+" "+name, w.Body.Bytes(), nil, []string{l.impossible})
			if got := strings.Count(w.Body.String(), changed); got != 2 {
				t.Errorf("%s %s: %d of the 2 other events came: %s", l.method, name, got, w.Body)
			}
			if name == "as it was" {
				checkSeen(t, l.method, w.Body.Bytes(), []string{l.open, l.more}, nil)
			}
		}
	}
}

// What needs no change passes byte for byte, however odd.
func TestOtherAnswersPassUnchanged(t *testing.T) {
	for name, body := range map[string]string{
		"spaces":     "{ \"jsonrpc\" : \"2.0\",\t\"id\":7,\r\n\"result\":{\"content\":[] } }\n",
		"duplicates": `{"jsonrpc":"2.0","id":7,"result":{"a":1,"a":2}}`,
		"numbers":    `{"jsonrpc":"2.0","id":7,"result":{"n":1e400,"m":0.10,"k":12345678901234567890}}`,
		"escapes":    `{"jsonrpc":"2.0","id":7,"result":{"s":"\u0041\/\ud83d"}}`,
		"large":      `{"jsonrpc":"2.0","id":7,"result":{"s":"` + strings.Repeat("x", 1<<20) + `"}}`,
		"tools":      listOf("tools", "name", "list_notes", "delete_note", "drop_everything", false),
		"no JSON":    "hello",
	} {
		f := newFixture(t, listPolicy, stiletest.AnswerJSON(http.StatusOK, body))
		res := send(t, serve(t, f.gateway), tool(era2026, f.token("notes:read"), "list_notes", `{}`))
		got, err := io.ReadAll(res.Body)
		if err != nil || string(got) != body {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, printable(got), printable([]byte(body)))
		}
	}
}
