package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stile-mcp/stile/message"
)

// This is what httputil.ReverseProxy does, for one upstream and without what is
// not carried here (docs/decisions/0011-own-proxy.md).

// nopCloser is the type the transport knows as a body in memory.
var nopCloser = reflect.TypeOf(io.NopCloser(bytes.NewReader(nil)))

// request makes the request that is sent: to the configured URL, without what
// speaks for the caller (REQ-05, DES-45), with the upstream's own credential. r is
// left as it is.
func (h *HTTP) request(r *http.Request) *http.Request {
	out := r.WithContext(r.Context())
	out.URL, out.Host, out.RequestURI = h.url, h.host, "" // a transport changes neither
	out.Close, out.Trailer, out.TransferEncoding = false, nil, nil
	out.Body = h.body(r)
	out.Header = maps.Clone(r.Header) // values are replaced, never changed
	if out.Header == nil {
		out.Header = http.Header{}
	}
	dropHopByHop(out.Header)
	delete(out.Header, "Expect")
	message.StripCredentials(out.Header)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // keeps the transport from naming itself
	}
	out.Header["Accept-Encoding"] = identity // the answer must be readable
	maps.Copy(out.Header, h.header)
	return out
}

var identity = []string{"identity"}

// body is what the transport reads. It must see when it is in memory; any other is
// lent to it until the answer is over.
func (h *HTTP) body(r *http.Request) io.ReadCloser {
	if r.Body == nil || r.ContentLength == 0 {
		return nil // with a body it could not be sent again
	}
	if r.GetBody != nil {
		if body, err := r.GetBody(); err == nil {
			return body
		}
	}
	if reflect.TypeOf(r.Body) == nopCloser {
		return r.Body
	}
	return &lentBody{r: r.Body}
}

// lentBody is a body that belongs to an http.Server. The transport may still read
// when the handler has returned, where that is not allowed, and must not close it:
// closing waits for the rest of the body.
type lentBody struct {
	r    io.Reader
	over atomic.Bool
}

// Read reads until the end of the answer.
func (b *lentBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.r.Read(p)
}

// Close ends reading, and leaves the body itself to its server.
func (b *lentBody) Close() error {
	b.end()
	return nil
}

func (b *lentBody) end() { b.over.Store(true) }

// hopByHop are the fields about one connection (RFC 9110 §7.6.1), beside those
// that Connection names.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate",
	"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func dropHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// answer copies the answer. One that breaks off ends in a panic with
// http.ErrAbortHandler, as otherwise it would look complete.
func (h *HTTP) answer(w http.ResponseWriter, res *http.Response) {
	defer func() { _ = res.Body.Close() }()
	dropHopByHop(res.Header)
	header := w.Header()
	for name, values := range res.Header {
		header[name] = append(header[name], values...)
	}
	w.WriteHeader(res.StatusCode)
	if err := h.copy(w, res); err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = res.Body.Close() // res.Trailer is there from now on
	if len(res.Trailer) == 0 {
		return
	}
	_ = http.NewResponseController(w).Flush() // trailers need chunks
	for name, values := range res.Trailer {
		header[http.TrailerPrefix+name] = values
	}
}

// copy copies the body. Streams, and bodies of unknown length, which may be
// some, are flushed after every read, and once at the beginning.
func (h *HTTP) copy(w http.ResponseWriter, res *http.Response) error {
	if res.Body == http.NoBody {
		return nil
	}
	stream := strings.Contains(strings.ToLower(res.Header.Get("Content-Type")), "text/event-stream")
	flush := func() error { return nil }
	if stream || res.ContentLength < 0 {
		flush = http.NewResponseController(w).Flush
		if err := ignoreUnsupported(flush()); err != nil {
			return err
		}
	}
	buffer, giveBack := copyBuffer(stream)
	defer giveBack()
	for {
		n, rerr := res.Body.Read(buffer)
		if n > 0 {
			written, err := w.Write(buffer[:n])
			if err == nil && written < n {
				err = io.ErrShortWrite
			}
			if err == nil {
				err = ignoreUnsupported(flush())
			}
			if err != nil {
				return err
			}
		}
		switch {
		case rerr == nil:
		case errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF):
			return nil
		default:
			if !errors.Is(rerr, context.Canceled) {
				h.errorLog.Printf("%s: the answer broke off: %v", h.url.Host, rerr)
			}
			return rerr
		}
	}
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

const (
	largeBuffer = 64 << 10
	smallBuffer = 4 << 10 // of event streams, which hold theirs as long as they last
)

var (
	large = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	small = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
)

// copyBuffer lends a buffer that suits the answer.
func copyBuffer(stream bool) (buffer []byte, giveBack func()) {
	if stream {
		b := small.Get().(*[smallBuffer]byte)
		return b[:], func() { small.Put(b) }
	}
	b := large.Get().(*[largeBuffer]byte)
	return b[:], func() { large.Put(b) }
}
