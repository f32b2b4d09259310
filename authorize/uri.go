package authorize

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalURI returns the normal form of a URI (DES-53; RFC 3986 §6.2.2): scheme
// and host in lower case, percent-encoding in upper-case hex and only where it is
// needed, dot segments removed. A text that is no URI comes back with whatever of
// this applies.
func normalURI(uri string) string {
	if isPlainURI(uri) {
		return uri
	}
	scheme, authority, path, tail := splitURI(uri)
	user, host := "", authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, host = authority[:at+1], authority[at+1:]
	}
	path = normalPercent(path)
	if authority != "" || strings.HasPrefix(path, "/") || scheme == "" {
		path = removeDotSegments(path)
	}
	return strings.ToLower(scheme) + normalPercent(user) + lowerHost(normalPercent(host)) + path + normalPercent(tail)
}

// isPlainURI tells at a glance most URIs that are in normal form.
func isPlainURI(uri string) bool {
	slashes := 0
	for i := range len(uri) {
		switch c := uri[i]; {
		case c == '%', c == '\\':
			return false
		case c == '/':
			slashes++
		case c == '.' && (i == 0 || uri[i-1] == '/' || uri[i-1] == ':'):
			return false
		case slashes < 3 && 'A' <= c && c <= 'Z':
			return false
		}
	}
	return true
}

// looseURI is what a server makes of a URI in normal form that unescapes slashes,
// takes backslashes for them, joins empty segments, and looks neither at the user
// and an empty port nor at a fragment: file:////secret, file:///secret%2Fkey or
// note://secret# mean another resource by RFC 3986, and often the same one in
// practice.
func looseURI(normal string) string {
	scheme, authority, path, tail := splitURI(normal)
	tail, _, _ = strings.Cut(tail, "#")
	if tail == "?" {
		tail = ""
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = "//" + authority[at+1:]
	}
	authority = strings.TrimSuffix(authority, ":")
	if scheme == "file:" && authority == "//localhost" {
		authority = "//"
	}
	if host, found := strings.CutPrefix(authority, "//"); found {
		var rest string
		host, rest, found = strings.Cut(slashes.Replace(host), "/")
		authority = "//" + host
		if found {
			path = "/" + rest + path
		}
	}
	path = slashes.Replace(path)
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 || len(authority) > len("//") {
		path = strings.TrimSuffix(path, "/")
	}
	return scheme + authority + path + tail
}

// slashes are what some servers take for a slash.
var slashes = strings.NewReplacer("%2F", "/", "%5C", "/", `\`, "/")

// splitURI takes a URI apart: "scheme:", "//authority", "path" and "?query#frag",
// which joined are the URI again.
func splitURI(uri string) (scheme, authority, path, tail string) {
	if end := strings.IndexAny(uri, ":/?#"); end > 0 && uri[end] == ':' {
		scheme, uri = uri[:end+1], uri[end+1:]
	}
	if end := strings.IndexAny(uri, "?#"); end >= 0 {
		uri, tail = uri[:end], uri[end:]
	}
	if strings.HasPrefix(uri, "//") {
		end := strings.IndexByte(uri[2:], '/')
		if end < 0 {
			return scheme, uri, "", tail
		}
		return scheme, uri[:end+2], uri[end+2:], tail
	}
	return scheme, "", uri, tail
}

// normalPercent decodes what need not be encoded and writes the rest of the hex
// digits in upper case. A "%" without two hex digits stays as it is.
func normalPercent(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c, ok := decodeTriplet(s[i:])
		switch {
		case !ok:
			b.WriteByte(s[i])
			continue
		case isUnreserved(c):
			b.WriteByte(c)
		default:
			b.WriteString(strings.ToUpper(s[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

// lowerHost lowers a host, but not the hex digits of its percent-encoding.
func lowerHost(host string) string {
	if !strings.Contains(host, "%") {
		return strings.ToLower(host)
	}
	b := []byte(host)
	for i := 0; i < len(b); i++ {
		if _, ok := decodeTriplet(host[i:]); ok {
			i += 2
			continue
		}
		if 'A' <= b[i] && b[i] <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// removeDotSegments is RFC 3986 §5.2.4.
func removeDotSegments(path string) string {
	if !strings.Contains(path, ".") {
		return path
	}
	segments := strings.Split(path, "/")
	rooted := segments[0] == "" && len(segments) > 1
	if rooted {
		segments = segments[1:]
	}
	var kept []string
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	joined := strings.Join(kept, "/")
	if rooted {
		return "/" + joined
	}
	return joined
}

// hidesDots reports whether a URI has dot segments that its normal form does
// not show, or that servers resolve in different ways: behind encoded slashes or
// encoded more than once, with backslashes, in the place of the host, or beside
// empty segments, which some collapse first and some do not.
func hidesDots(uri string) bool {
	if isPlainURI(uri) {
		return false
	}
	_, authority, path, _ := splitURI(uri)
	if dotted(strings.TrimPrefix(authority, "//")) || dotted(removeDotSegments(normalPercent(path))) {
		return true
	}
	if !dotted(path) {
		return false
	}
	decoded, _ := decodeFully(path)
	return strings.Contains(decoded, "//") || strings.Count(decoded, "/") != strings.Count(path, "/")
}

// dotted reports whether a path, wholly decoded, has a segment "." or "..".
// What cannot be decoded wholly counts as one that has.
func dotted(path string) bool {
	decoded, whole := decodeFully(path)
	if !whole {
		return true
	}
	for segment := range strings.SplitSeq(decoded, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// maxDecodings is how often percent-encoding is undone to see what it hides.
const maxDecodings = 4

// decodeFully decodes until nothing is left to decode, and takes "\" for "/".
// It gives up after maxDecodings rounds.
func decodeFully(s string) (decoded string, whole bool) {
	for range maxDecodings {
		next := decodePercent(s)
		if next == s {
			return strings.ReplaceAll(s, `\`, "/"), true
		}
		s = next
	}
	return s, false
}

// decodePercent decodes every percent-encoded byte once.
func decodePercent(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if c, ok := decodeTriplet(s[i:]); ok {
			b = append(b, c)
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

// decodeTriplet decodes the "%XX" that s begins with.
func decodeTriplet(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	hi, lo := unhex(s[1]), unhex(s[2])
	if hi < 0 || lo < 0 {
		return 0, false
	}
	return byte(hi<<4 | lo), true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	default:
		return -1
	}
}

// isUnreserved is RFC 3986 §2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// carelessURIs is what careless servers make of a URI in normal form, each once:
// looseURI, and what has letters beyond ASCII with those composed (NFC), as some
// file systems do, whether they are escaped or not.
func carelessURIs(normal string) []string {
	var found []string
	add := func(uri string) {
		if uri != normal && !slices.Contains(found, uri) {
			found = append(found, uri)
		}
	}
	loose := looseURI(normal)
	add(loose)
	if plain := unescapeLetters(loose); !isASCII(plain) && utf8.ValidString(plain) {
		plain = norm.NFC.String(plain)
		add(plain)
		add(escapeLetters(plain))
	}
	return found
}

// unescapeLetters decodes the escapes of bytes beyond ASCII.
func unescapeLetters(uri string) string {
	if strings.IndexByte(uri, '%') < 0 {
		return uri
	}
	b := make([]byte, 0, len(uri))
	for i := 0; i < len(uri); i++ {
		c := uri[i]
		if letter, ok := decodeTriplet(uri[i:]); ok && letter >= utf8.RuneSelf {
			c = letter
			i += 2
		}
		b = append(b, c)
	}
	return string(b)
}

// escapeLetters escapes every byte beyond ASCII.
func escapeLetters(uri string) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, 3*len(uri))
	for i := range len(uri) {
		if c := uri[i]; c >= utf8.RuneSelf {
			b = append(b, '%', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
