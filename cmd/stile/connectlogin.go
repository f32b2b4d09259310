package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stile-mcp/stile/bridge"
	"github.com/stile-mcp/stile/stepup"
	"github.com/stile-mcp/stile/stepup/saved"
)

// hello is what a client says first. It is all that a login needs.
const hello = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
	`"capabilities":{},"clientInfo":{"name":"stile","version":"1"}}}` + "\n"

// login does what a client does at its start, so that one that comes later finds the
// login.
func (conn *connection) login(p *process, limit time.Duration) error {
	transport, err := stepup.New(conn.config)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	err = bridge.Run(p.ctx, bridge.Config{URL: conn.url, Transport: explaining{transport}, Header: conn.header, In: strings.NewReader(hello), Out: &said,
		Grace: limit + time.Minute, Log: conn.log})
	if p.ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	if err := answerIn(said.Bytes()); err != nil {
		return err
	}
	login, err := stepup.LoadLogin(p.ctx, conn.store, conn.resource())
	switch {
	case err != nil:
		return err
	case login == nil:
		_, err = fmt.Fprintf(p.stdout, "%s lets you in without a login\n", conn.shown())
	default:
		_, err = fmt.Fprintf(p.stdout, "logged in to %s\n%s", conn.resource(), describe(login))
	}
	return err
}

// answerIn looks for the answer to hello among messages; its error is why it was not
// a good one.
func answerIn(messages []byte) error {
	for line := range bytes.Lines(messages) {
		var m struct {
			ID     any
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if json.Unmarshal(line, &m) != nil || m.ID == nil {
			continue
		}
		if m.Error != nil {
			return errors.New(printable(m.Error.Message))
		}
		if m.Result != nil {
			return nil
		}
	}
	return errors.New("the server did not answer")
}

// logout forgets a login. The registration stays, and so does what the issuer
// remembers.
func (conn *connection) logout(p *process) error {
	login, err := stepup.LoadLogin(p.ctx, conn.store, conn.resource())
	if err == nil && login == nil {
		_, err = fmt.Fprintf(p.stdout, "there is no login to %s\n", conn.resource())
		return err
	}
	// One that cannot be read is forgotten all the same.
	if err := stepup.Logout(p.ctx, conn.store, conn.resource()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "forgot the login to %s\n", conn.resource())
	if err == nil && login != nil {
		_, err = fmt.Fprintf(p.stdout, "%s may still remember what you allowed\n", printable(login.Issuer))
	}
	return err
}

// list shows every login without its secrets.
func (c *connectCommand) list(p *process) error {
	kept, err := c.openStore(p, func(string) {})
	if err != nil {
		return err
	}
	store, ok := kept.(*saved.Store)
	if !ok {
		return usageError{"--list: memory is gone with the process that had it"}
	}
	all, unreadable := store.List()
	found := 0
	for _, one := range all {
		resource, ok := stepup.ResourceOf(one.Name)
		if !ok || c.URL != "" && c.URL != resource {
			continue
		}
		found++
		where := "a file"
		if one.Sealed {
			where = "a file, sealed with a key in the keyring"
		}
		text := "  it cannot be read: log in again\n"
		if login, err := stepup.LoadLogin(p.ctx, store, resource); err != nil {
			unreadable = errors.Join(unreadable, err)
		} else if login != nil {
			text = describe(login)
		}
		if _, err := fmt.Fprintf(p.stdout, "%s\n%s  kept in  %s\n", printable(resource), text, where); err != nil {
			return err
		}
	}
	if found == 0 && unreadable == nil {
		_, err = fmt.Fprintf(p.stdout, "no logins in %s\n", store.Dir())
		return err
	}
	return unreadable
}

// describe says what a login is good for.
func describe(l *stepup.Login) string {
	scopes := l.Scopes
	if scopes == nil {
		scopes = l.Asked
	}
	until := "no end is known"
	switch {
	case l.Expires.IsZero():
	case l.RefreshToken != "":
		until = l.Expires.Local().Format("2006-01-02 15:04") + ", then renewed"
	default:
		until = l.Expires.Local().Format("2006-01-02 15:04")
	}
	return fmt.Sprintf("  issuer   %s\n  scopes   %s\n  until    %s\n", printable(l.Issuer), printable(strings.Join(scopes, " ")), until)
}
