package sse

import (
	"fmt"
	"net/url"
	"strings"
)

// MessageURL is where messages go, as an event stream of the transport of 2024-11-05
// at base says in the data of its event "endpoint". A URL on another origin would get
// the credential that is meant for this one, and everything that is said; it is an
// error.
func MessageURL(base *url.URL, text string) (*url.URL, error) {
	u, err := base.Parse(strings.TrimSpace(text))
	if err != nil || u.Scheme != base.Scheme || !strings.EqualFold(u.Hostname(), base.Hostname()) || port(u) != port(base) || u.User != nil {
		return nil, fmt.Errorf("the server %s named a URL for messages that is not its own", base.Host)
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}
