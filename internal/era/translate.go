package era

import (
	"crypto/sha256"

	"github.com/go-json-experiment/json/jsontext"
)

// wrapping is what envelops a request of 2026-07-28 (basic/index "Per-request
// protocol fields").
type wrapping struct {
	version      string
	client       jsontext.Value // nil: it does not say who it is
	capabilities jsontext.Value
	level        string         // empty: it wants no log messages
	token        jsontext.Value // of progress, nil: it wants none
}

// unwrap takes params of 2026-07-28 apart: the wrapping, and the members that the
// older revisions know too. What else _meta holds stays.
func unwrap(raw jsontext.Value) (wrapping, object) {
	params := lenient(raw)
	meta := lenient(params.get("_meta"))
	w := wrapping{version: meta.text(metaVersion), client: meta.get(metaClient), capabilities: meta.get(metaCapabilities),
		level: meta.text(metaLevel), token: meta.get(metaToken)}
	rest := meta.without(metaVersion, metaClient, metaCapabilities, metaLevel)
	params = params.without("inputResponses", "requestState")
	if len(rest) == 0 {
		return w, params.without("_meta")
	}
	return w, params.with("_meta", rest.bytes())
}

// wrap is the way back.
func (w wrapping) wrap(params object) object {
	meta := lenient(params.get("_meta")).with(metaVersion, quote(w.version)).with(metaCapabilities, w.capabilities)
	if w.client != nil {
		meta = meta.with(metaClient, w.client)
	}
	if w.level != "" {
		meta = meta.with(metaLevel, quote(w.level))
	}
	return params.with("_meta", meta.bytes())
}

// withToken gives params another progress token, where they have one.
func withToken(params object, token jsontext.Value) object {
	meta := lenient(params.get("_meta"))
	if meta.get(metaToken) == nil {
		return params
	}
	return params.with("_meta", meta.with(metaToken, token).bytes())
}

// mayAsk are the methods whose answer may ask for input (basic/patterns/mrtr
// "Supported Requests").
func mayAsk(method string) bool {
	return method == "tools/call" || method == "prompts/get" || method == "resources/read"
}

// cacheable are the methods whose results say how long they are good for
// (server/utilities/caching).
func cacheable(method string) bool {
	switch method {
	case "server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read":
		return true
	}
	return false
}

// standard are the methods of requests that both generations have.
func standard(method string) bool {
	switch method {
	case "tools/call", "tools/list", "prompts/get", "prompts/list", "resources/read", "resources/list",
		"resources/templates/list", "completion/complete":
		return true
	}
	return false
}

// removed are methods of the older revisions that 2026-07-28 has no more.
func removed(method string) bool {
	switch method {
	case "initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe",
		"tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "tasks/update":
		return true
	}
	return false
}

// resultToModern makes a result of 2026-07-28 of an older one. An old server knows
// no other kind than a complete one, and gives no promise how long it is good.
func resultToModern(method string, raw, server jsontext.Value) (jsontext.Value, bool) {
	result, err := readObject(raw)
	if err != nil {
		return nil, false
	}
	result = result.with("resultType", []byte(`"complete"`))
	if cacheable(method) {
		result = result.with("ttlMs", []byte("0")).with("cacheScope", []byte(`"private"`))
	}
	if server != nil {
		result = result.with("_meta", lenient(result.get("_meta")).with(metaServer, server).bytes())
	}
	return result.bytes(), true
}

// resultToLegacy makes an older result of a complete one of 2026-07-28.
func resultToLegacy(method string, result object) jsontext.Value {
	result = result.without("resultType")
	if cacheable(method) {
		result = result.without("ttlMs", "cacheScope")
	}
	return result.bytes()
}

// errorToModern gives an error of the older revisions a code that 2026-07-28 allows
// (basic/index "Error Codes").
func errorToModern(raw jsontext.Value) jsontext.Value {
	code := codeOf(raw)
	switch {
	case code == codeMissing && isObject(lenient(lenient(raw).get("data")).get("requiredCapabilities")):
		return raw // a server that speaks both generations means what this says
	case code == codeNotFound:
		return recode(raw, "-32602")
	case code == codeURLNeeded, code <= -32020 && code >= -32099:
		return recode(raw, "-32603")
	}
	return raw
}

// errorToLegacy takes codes away that speak of the envelope, which the client has
// not written.
func errorToLegacy(raw jsontext.Value) jsontext.Value {
	if code := codeOf(raw); code == codeVersion || code == -32020 {
		return recode(raw, "-32603")
	}
	return raw
}

func recode(raw jsontext.Value, code string) jsontext.Value {
	return lenient(raw).with("code", []byte(code)).bytes()
}

// The log levels, from the least severe (2025-11-25 server/utilities/logging).
var levels = map[string]int{"debug": 1, "info": 2, "notice": 3, "warning": 4, "error": 5, "critical": 6, "alert": 7, "emergency": 8}

// same is a digest of what a call asks for: two calls that differ in nothing but
// what envelops them, or in how their JSON is written, have the same.
func same(method string, params object) [sha256.Size]byte {
	raw := params.without("_meta", "inputResponses", "requestState").bytes()
	_ = raw.Canonicalize() // what cannot be is compared as it is written
	return sha256.Sum256(append([]byte(method+"\n"), raw...))
}

// capability reports whether a client that declares these capabilities may be asked
// for something.
func capability(capabilities jsontext.Value, method string, params jsontext.Value) bool {
	all := lenient(capabilities)
	switch method {
	case "roots/list":
		return isObject(all.get("roots"))
	case "sampling/createMessage":
		return isObject(all.get("sampling"))
	case "elicitation/create":
		modes := all.get("elicitation")
		if lenient(params).text("mode") == "url" {
			return isObject(lenient(modes).get("url"))
		}
		return isObject(modes)
	}
	return false
}
