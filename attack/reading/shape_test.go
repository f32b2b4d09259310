package reading_test

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// dice makes choices from bytes, so that a fuzzer can shape messages instead of
// breaking them. When the bytes are used up, the first choice is taken.
type dice struct{ left []byte }

func (d *dice) roll(n int) int {
	if len(d.left) == 0 {
		return 0
	}
	b := int(d.left[0])
	d.left = d.left[1:]
	return b % n
}

func pick[T any](d *dice, from ...T) T { return from[d.roll(len(from))] }

// shape writes a message that is nearly always JSON and often hostile: members
// twice, in other case, escaped, copied to where they do not belong, with values
// of every kind.
func shape(choices []byte) []byte {
	d := &dice{left: choices}
	verb := pick(d, "tools/call", "tools/call", "tools/call", "resources/read", "prompts/get", "completion/complete", "tasks/get",
		"resources/subscribe", "tools/list", "acme/run", "notifications/cancelled", "initialize", "server/discover", "")
	root := []string{
		d.pair("jsonrpc", `"2.0"`),
		d.pair("id", pick(d, `1`, `"a"`, `-5`, `9007199254740993`, `1.0`, `null`)),
		d.pair("method", d.quote(verb)),
		d.pair("params", d.params(verb)),
	}
	if d.roll(4) == 1 {
		root = append(root, d.stray(0))
	}
	if d.roll(12) == 1 {
		root = root[1:]
	}
	body := d.object(root)
	switch d.roll(24) {
	case 1:
		body += body
	case 2:
		body = "[" + body + "]"
	case 3:
		body = "\ufeff" + body
	case 4:
		body += d.space() + pick(d, "\x00", "x", "null", "}")
	}
	return []byte(d.space() + body + d.space())
}

// params writes what the method acts on.
func (d *dice) params(verb string) string {
	var members []string
	switch verb {
	case "tools/call", "prompts/get":
		members = append(members, d.pair("name", d.quote(pick(d, "safe", "danger", "Safe", "é", "safe\x00"))))
		if d.roll(3) > 0 {
			members = append(members, d.pair("arguments", d.object([]string{d.pair(pick(d, "x", "permanent", "name"), d.value(0)), d.pair("y", d.value(0))})))
		}
	case "resources/read", "resources/subscribe":
		members = append(members, d.pair("uri", d.quote(pick(d, "note://1", "note://1/../2", "note://%31"))))
	case "completion/complete":
		members = append(members, d.pair("ref", d.object([]string{d.pair("type", d.quote(pick(d, "ref/prompt", "ref/resource"))),
			d.pair(pick(d, "name", "uri"), d.quote(pick(d, "safe", "danger")))})))
	case "tasks/get":
		members = append(members, d.pair("taskId", d.quote(pick(d, "a", "b"))))
	}
	if d.roll(2) == 1 {
		members = append(members, d.pair("_meta", d.object([]string{
			d.pair("io.modelcontextprotocol/protocolVersion", d.quote(pick(d, "2026-07-28", "2025-11-25"))),
			d.pair("io.modelcontextprotocol/clientCapabilities", "{}")})))
	}
	for d.roll(3) == 1 {
		members = append(members, d.stray(0))
	}
	return d.object(members)
}

// stray is a member that has no business where it stands.
func (d *dice) stray(depth int) string {
	known := pick(d, "name", "uri", "arguments", "params", "method", "id", "result", "error", "_meta", "taskId", "ref", "__proto__", "x", "", "params.name")
	return d.pair(d.disguise(known), d.value(depth))
}

// disguise changes a name into one that somebody could take for it.
func (d *dice) disguise(text string) string {
	switch d.roll(9) {
	case 1:
		return strings.ToUpper(text)
	case 2:
		return strings.ReplaceAll(text, "s", "\u017f")
	case 3:
		return strings.ReplaceAll(text, "k", "\u212a")
	case 4:
		return strings.ReplaceAll(text, "i", "\u0131")
	case 5:
		return text + "\x00"
	case 6:
		return text + " "
	case 7:
		if r, size := utf8.DecodeRuneInString(text); size > 0 {
			return strings.ToUpper(string(r)) + text[size:]
		}
	}
	return text
}

func (d *dice) pair(key, value string) string {
	return d.quote(key) + d.space() + ":" + d.space() + value
}

// object joins members, now and then in another order or one of them twice.
func (d *dice) object(members []string) string {
	if n := len(members); n > 0 {
		switch d.roll(10) {
		case 1:
			members = append(members, members[d.roll(n)])
		case 2:
			i, j := d.roll(n), d.roll(n)
			members[i], members[j] = members[j], members[i]
		}
	}
	return "{" + d.space() + strings.Join(members, d.space()+","+d.space()) + d.space() + "}"
}

// value is any JSON value, and now and then none.
func (d *dice) value(depth int) string {
	if depth > 3 {
		return "0"
	}
	switch d.roll(12) {
	case 1:
		return "{" + d.stray(depth+1) + "}"
	case 2:
		return "[" + d.value(depth+1) + "," + d.value(depth+1) + "]"
	case 3:
		return d.quote(pick(d, "danger", "", "é\U0001f600", "a\x00b", "\u2028", "\x7f", "</script>"))
	case 4:
		return pick(d, "0", "-0", "1e2", "1E+2", "1.0", "0.1", "9007199254740993", "1e999", "-1e-400", "123456789012345678901234567890", "2.5e-7")
	case 5:
		return pick(d, "null", "true", "false")
	case 6:
		return pick(d, "NaN", "Infinity", "01", "+1", "1.", "0x1", "True", "'a'", `"\ud800"`, "\"\xff\"", "\"a\nb\"")
	default:
		return `"v"`
	}
}

// quote writes a string, with some of its characters escaped.
func (d *dice) quote(text string) string {
	how := d.roll(6)
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range text {
		switch {
		case r < ' ' || r == '"' || r == '\\', how == 1, how == 2 && i == 0:
			if r > 0xFFFF {
				b.WriteRune(r)
				continue
			}
			fmt.Fprintf(&b, `\u%04x`, r)
		case r == '/' && how == 3:
			b.WriteString(`\/`)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (d *dice) space() string {
	return pick(d, "", "", "", "", "", "", " ", "\n", "\t", "\r\n", "", "", "", "", "", "\f")
}
