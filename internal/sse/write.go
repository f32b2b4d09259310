package sse

import "bytes"

// Format writes one event: the id and the type where they are not empty, then
// the data, a line for each of its lines, and the blank line. An id or type must
// hold neither line ends nor NUL; what follows the first is left out.
func Format(id, eventType string, data []byte) []byte {
	out := make([]byte, 0, len(id)+len(eventType)+len(data)+len("id: \nevent: \ndata: \n\n"))
	out = appendField(out, "id: ", id)
	out = appendField(out, "event: ", eventType)
	out = appendData(out, data, "\n")
	return append(out, '\n')
}

// ReplaceData returns an event like raw, the Raw of an Event, with data in place
// of its data. All other lines stay as they are, and the lines written end as the
// data line they replace did. With nil data the event loses its data lines: a
// client takes the id and dispatches nothing. When no blank line ends raw (see
// Scanner.End) one is added.
func ReplaceData(raw, data []byte) []byte {
	out := make([]byte, 0, len(raw)+len(data)+len("data: \n\n"))
	rest := raw
	if bytes.HasPrefix(rest, mark) {
		out, rest = append(out, mark...), rest[len(mark):]
	}
	written, ended := data == nil, false
	for len(rest) > 0 {
		line, next := cutLine(rest)
		end := orLF(rest[len(line) : len(rest)-len(next)])
		name, _ := field(line)
		ended = len(line) == 0
		isData := string(name) == "data"
		if !written && (isData || ended && len(next) == 0) {
			out, written = appendData(out, data, end), true
		}
		if !isData {
			out = appendLine(out, line, end)
		}
		rest = next
	}
	if !written {
		out = appendData(out, data, "\n")
	}
	if !ended {
		out = appendLine(out, nil, "\n")
	}
	return out
}

// appendLine adds a line. A LF that ends an empty line must not become the second
// half of a line end before it, as it would when a line between the two is gone.
func appendLine(out, line []byte, end string) []byte {
	if len(line) == 0 && end == "\n" && bytes.HasSuffix(out, []byte{'\r'}) {
		end = "\n\n"
	}
	return append(append(out, line...), end...)
}

func orLF(end []byte) string {
	if len(end) == 0 {
		return "\n"
	}
	return string(end)
}

func appendField(out []byte, name, value string) []byte {
	for i := range len(value) {
		if c := value[i]; c == '\n' || c == '\r' || c == 0 {
			value = value[:i]
			break
		}
	}
	if value == "" {
		return out
	}
	return append(append(append(out, name...), value...), '\n')
}

// appendData writes a data line for each line of data; there is always one.
func appendData(out, data []byte, end string) []byte {
	for {
		n := lineEnd(data)
		out = append(out, "data: "...)
		if n < 0 {
			return append(append(out, data...), end...)
		}
		out = append(append(out, data[:n]...), end...)
		if data[n] == '\r' && n+1 < len(data) && data[n+1] == '\n' {
			n++
		}
		data = data[n+1:]
	}
}
