package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// browserName is what the driver is called where it plays the browser.
const browserName = "browser"

// browse opens an authorization request and goes where it redirects, as a browser
// does whose person has allowed everything beforehand.
func browse(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("expected the address alone, got %q", args)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	to, err := answerTo(ctx, args[0])
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// through is go-sdk's client in front of `stile connect`.
func (d *driver) through() (mcp.Transport, error) {
	return nil, errors.New("not yet")
}
