package loopback

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/stile-mcp/stile/stepup"
)

// liner gives the lines that somebody types.
type liner interface {
	// line waits for the next one. Its error is that there are no more, or ctx's.
	line(ctx context.Context) (string, error)
	close()
}

// lines is where pasted answers come from; nil where nobody could paste one.
func (p *Person) lines() liner {
	if p.pasted != nil {
		return p.pasted
	}
	// Where somebody else reads what we print, somebody else reads the keys.
	if out, ok := p.config.Out.(*os.File); !ok || !term.IsTerminal(int(out.Fd())) {
		return nil
	}
	return openTerminal()
}

// pump reads lines for whoever waits for one: a read cannot be broken off.
type pump struct {
	from  io.Reader
	once  sync.Once
	lines chan string
}

// maxLine bounds a pasted line, in bytes.
const maxLine = 64 << 10

func newPump(from io.Reader) *pump { return &pump{from: from, lines: make(chan string)} }

func (p *pump) line(ctx context.Context) (string, error) {
	p.once.Do(func() {
		go func() {
			defer close(p.lines)
			scanner := bufio.NewScanner(p.from)
			scanner.Buffer(nil, maxLine)
			for scanner.Scan() {
				p.lines <- scanner.Text()
			}
		}()
	})
	select {
	case line, ok := <-p.lines:
		if !ok {
			return "", io.EOF
		}
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (p *pump) close() {}

// takePasted passes on the first line that is an answer.
func (p *Person) takePasted(ctx context.Context, lines liner, say wording, pasted chan<- url.Values) {
	for {
		line, err := lines.line(ctx)
		if err != nil {
			return
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		answer, err := readPasted(line, say.redirect)
		if err != nil {
			p.print("That was not it: " + err.Error() + ". Paste again:\n")
			continue
		}
		select {
		case pasted <- answer:
		case <-ctx.Done():
		}
		return
	}
}

// readPasted reads the address at which a browser ended, or what stands behind its
// question mark.
func readPasted(line, redirect string) (url.Values, error) {
	text := strings.Trim(strings.TrimSpace(line), `"'<>`)
	if before, query, ok := strings.Cut(text, "?"); ok {
		if before != redirect && before != "" {
			return nil, errors.New("expected an address that begins with " + redirect + "?")
		}
		text = query
	}
	text, _, _ = strings.Cut(text, "#")
	answer, err := url.ParseQuery(text)
	if err != nil || !isAnswer(answer) {
		return nil, errors.New("expected the whole address, with code= or error= in it")
	}
	return answer, nil
}

// wording is what is said about one login.
type wording struct {
	redirect string
	address  string
	request  stepup.Request
}

// why says what the login is for, and what is newly asked for: the page of an issuer may
// not show that.
func (w wording) why() string {
	text := plain(w.request.Resource) + " asks you to log in"
	if w.request.Operation != "" {
		text = operation(w.request) + " needs your permission at " + plain(w.request.Resource)
	}
	for i, scope := range w.request.New {
		if i == 0 {
			text += ", for"
		}
		text += " " + plain(scope)
	}
	return text
}

func (w wording) opening() string { return w.why() + ". A browser window opens for it." }

func (w wording) openingAt() string {
	return w.why() + ".\nA browser opens; if none does, open this address:\n\n  " + w.address + "\n\n"
}

func (w wording) byHand() string {
	return w.why() + ". Open this address in a browser: " + w.address
}

func (w wording) byHandAt(paste bool) string {
	s := w.why() + ".\nOpen this address in a browser:\n\n  " + w.address + "\n\n" +
		"The browser then goes to " + w.redirect + " on its own machine.\n"
	if !paste {
		return s + "If that is another one than this, forward the port, or log in beforehand with\n" +
			"stile connect --login in a terminal.\n"
	}
	return s + "If that is another one than this it shows an error: paste the address it ended\nat here, and press Enter:\n"
}
