package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

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

// through is go-sdk's client in front of `stile connect`, which begins without any
// login.
func (d *driver) through() (mcp.Transport, error) {
	home, err := os.MkdirTemp("", "driver-")
	if err != nil {
		return nil, err
	}
	d.home = home
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	browser := filepath.Join(home, browserName)
	if err := os.Symlink(self, browser); err != nil {
		return nil, err
	}
	options, err := d.options()
	if err != nil {
		return nil, err
	}
	arguments := slices.Concat([]string{"connect", "--storage", "file"}, options, []string{d.url})
	command := exec.Command(d.stile, arguments...)
	command.Env = append(os.Environ(), "STILE_HOME="+home, "BROWSER="+browser)
	command.Stderr = os.Stderr
	return &mcp.CommandTransport{Command: command}, nil
}

// options is what the suite gives beforehand, in the words of the command line.
func (d *driver) options() ([]string, error) {
	g := d.given
	options := []string{"--client-metadata-url", metadataURL}
	if g.ClientID != "" {
		options = []string{"--client-id", g.ClientID}
	}
	add := func(option, value string) error {
		if value == "" {
			return nil
		}
		path := filepath.Join(d.home, strings.Trim(option, "-"))
		options = append(options, option, path)
		return os.WriteFile(path, []byte(value), 0o600)
	}
	err := add("--client-secret-file", g.ClientSecret)
	if strings.HasPrefix(d.scenario, "auth/client-credentials-") {
		options = append(options, "--grant", "client_credentials")
	}
	if g.IdPIssuer != "" {
		options = append(options, "--idp", g.IdPIssuer, "--idp-client-id", g.IdPClientID)
	}
	return options, errors.Join(err, add("--key", g.PrivateKey), add("--id-token-file", g.IdPIDToken), add("--assertion-file", g.WorkloadToken))
}
