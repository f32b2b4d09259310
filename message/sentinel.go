package message

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"
)

// The sentinel of an encoded header value (2026-07-28 transports/streamable-http
// "Value Encoding"). Case-sensitive.
const (
	sentinelPrefix = "=?base64?"
	sentinelSuffix = "?="
)

// ErrHeaderValue is returned for a header value that cannot stand for anything:
// characters outside visible ASCII, space and tab, or a base64 sentinel whose
// inside is not canonical base64 of UTF-8.
var ErrHeaderValue = errors.New("malformed header value")

// EncodeHeaderValue returns value as it is sent in Mcp-Name or Mcp-Param-*:
// itself when it is safe, otherwise as =?base64?...?= (2026-07-28
// transports/streamable-http "Value Encoding"). What is encoded: anything but
// visible ASCII and inner spaces, the empty value, and values that look encoded.
func EncodeHeaderValue(value string) string {
	if isPlain(value) && !isSentinel(value) {
		return value
	}
	return sentinelPrefix + base64.StdEncoding.EncodeToString([]byte(value)) + sentinelSuffix
}

// isPlain reports whether value survives as it is in a header.
func isPlain(value string) bool {
	if value == "" || value[0] == ' ' || value[len(value)-1] == ' ' {
		return false
	}
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return true
}

func isSentinel(value string) bool {
	return strings.HasPrefix(value, sentinelPrefix) && strings.HasSuffix(value, sentinelSuffix)
}

// DecodeHeaderValue is the way back from EncodeHeaderValue, after surrounding
// spaces and tabs are taken off. A value with only one half of the sentinel is
// meant as it stands. The base64 must be canonical: padded, of the standard
// alphabet, without stray bits; lenient decoders would let one name have many
// spellings. The error is ErrHeaderValue.
func DecodeHeaderValue(value string) (string, error) {
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if c := value[i]; (c < ' ' && c != '\t') || c > '~' {
			return "", ErrHeaderValue
		}
	}
	if !isSentinel(value) {
		return value, nil
	}
	if len(value) < len(sentinelPrefix)+len(sentinelSuffix) {
		return "", ErrHeaderValue // one question mark cannot serve both halves
	}
	inside := value[len(sentinelPrefix) : len(value)-len(sentinelSuffix)]
	text, err := base64.StdEncoding.Strict().DecodeString(inside)
	if err != nil || !utf8.Valid(text) {
		return "", ErrHeaderValue
	}
	return string(text), nil
}

// SetHeaders sets the headers that mirror a modern message: MCP-Protocol-Version,
// Mcp-Method and, where the method has one, Mcp-Name (REQ-25, REQ-26). On a
// message of the 2025 revisions it does nothing.
func SetHeaders(h http.Header, c *Call) {
	if c.Era != Era2026 {
		return
	}
	h.Set(headerVersion, c.Version)
	h.Set(headerMethod, c.Method)
	if op := operations[c.Method]; op != nil && op.mirrored {
		h.Set(headerName, EncodeHeaderValue(c.mirror(op)))
	}
}
