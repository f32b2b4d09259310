package message

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// DefaultMaxBody is the size limit of a message in bytes where none is set.
const DefaultMaxBody = 4 << 20

// firstChunk is how much is allocated on the word of a Content-Length alone.
const firstChunk = 64 << 10

// ReadBody reads a request body of at most max bytes (DefaultMaxBody when max
// is not positive). declared is the Content-Length, or negative when the body
// is chunked. A body over max is refused with status 413 and code -32600:
// before anything is read when its length says so, otherwise as soon as it has
// crossed the limit. A body that ends early, goes on after its declared length
// or cannot be read is refused with status 400, and the cause is in Err.
//
// The memory it takes never exceeds max by more than a constant; a declared
// length is allocated exactly, but above 64 KiB only once that much has come.
func ReadBody(r io.Reader, declared, max int64) ([]byte, *Error) {
	if max <= 0 {
		max = DefaultMaxBody
	}
	if declared > max {
		return nil, tooLarge(max)
	}
	if declared < 0 {
		return readChunked(r, max)
	}
	body, err := readDeclared(r, declared)
	if err != nil {
		return nil, unreadable(err, max)
	}
	more, err := hasMore(r)
	if err != nil {
		return nil, unreadable(err, max)
	}
	if more {
		return nil, badRequest(CodeInvalidRequest, "the body is longer than its Content-Length")
	}
	return body, nil
}

// firstChunks are the beginnings of large bodies, until the rest has room.
var firstChunks = sync.Pool{New: func() any { return new([firstChunk]byte) }}

// readDeclared reads n bytes.
func readDeclared(r io.Reader, n int64) ([]byte, error) {
	if n <= firstChunk {
		body := make([]byte, n)
		_, err := io.ReadFull(r, body)
		return body, err
	}
	first := firstChunks.Get().(*[firstChunk]byte)
	defer firstChunks.Put(first)
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return nil, err
	}
	body := make([]byte, n)
	copy(body, first[:])
	_, err := io.ReadFull(r, body[firstChunk:])
	return body, err
}

// readChunked reads a body whose length nobody told.
func readChunked(r io.Reader, max int64) ([]byte, *Error) {
	body := make([]byte, 0, min(4<<10, max))
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, unreadable(err, max)
		}
		if len(body) < cap(body) {
			continue
		}
		if int64(len(body)) < max {
			larger := make([]byte, len(body), min(2*int64(cap(body)), max))
			copy(larger, body)
			body = larger
			continue
		}
		more, err := hasMore(r)
		if err != nil {
			return nil, unreadable(err, max)
		}
		if more {
			return nil, tooLarge(max)
		}
		return body, nil
	}
}

// hasMore reports whether r yields another byte.
func hasMore(r io.Reader) (bool, error) {
	var one [1]byte
	switch _, err := io.ReadFull(r, one[:]); err {
	case nil:
		return true, nil
	case io.EOF:
		return false, nil
	default:
		return false, err
	}
}

func tooLarge(max int64) *Error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Code: CodeInvalidRequest,
		Message: "the body is over " + strconv.FormatInt(max, 10) + " bytes"}
}

// unreadable is a body that could not be read to its end.
func unreadable(err error, max int64) *Error {
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		e := tooLarge(min(over.Limit, max))
		e.Err = err
		return e
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	e := badRequest(CodeInvalidRequest, "the body was cut off")
	e.Err = err
	return e
}
