package sse

import "bytes"

// ReplaceID returns an event like raw, the Raw of an Event, with id in place of
// every id it has: one line where the first of them was, or none where id is empty.
// All other lines stay as they are. The id must hold neither line ends nor NUL.
func ReplaceID(raw, id []byte) []byte {
	out := make([]byte, 0, len(raw)+len(id)+len("id: \n"))
	rest := raw
	if bytes.HasPrefix(rest, mark) {
		out, rest = append(out, mark...), rest[len(mark):]
	}
	written := len(id) == 0
	for len(rest) > 0 {
		line, next := cutLine(rest)
		end := orLF(rest[len(line) : len(rest)-len(next)])
		switch name, _ := field(line); {
		case string(name) != "id":
			out = appendLine(out, line, end)
		case !written:
			out = append(append(append(out, "id: "...), id...), end...)
			written = true
		}
		rest = next
	}
	return out
}
