package main

// The comments of the types below are part of the manual, as those in config.go.

// TLS is the certificate that the gateway shows. The files are read again when they
// change; connections that are open go on.
type TLS struct {
	// The file of the certificate, PEM, followed by those between it and the root.
	// Required.
	Certificate string `yaml:"certificate"`
	// The file of its private key, PEM. Required.
	Key string `yaml:"key"`
	// The file of the authorities, PEM, of which every client must show a
	// certificate, health probes too. It comes before the access token, not in its
	// place. Default: no certificate is asked for.
	ClientCA string `yaml:"client_ca"`
}

// CORS is what pages of other origins may do. MCP clients in a browser get what they
// need without any of this once their origin is in allowed_origins or here.
type CORS struct {
	// Further origins whose pages may call, as in allowed_origins, or "*" for every
	// page; that not with credentials, nor when public_url is on loopback.
	Origins []string `yaml:"origins"`
	// Further request headers that a page may send.
	Headers []string `yaml:"headers"`
	// Further headers of answers that a page may read, beside WWW-Authenticate and
	// those of the protocol.
	Expose []string `yaml:"expose"`
	// Let browsers send cookies along, for a proxy in front that wants them. Default
	// false.
	Credentials bool `yaml:"credentials"`
	// How long a browser may remember the answer to a preflight; "off" for not at
	// all. Default 10m.
	MaxAge Duration `yaml:"max_age" off:"true"`
}

// Debug is for looking at what passes. Secrets are taken out: tokens, keys, cookies
// and the values of headers and env of this file. What people say to tools is not.
type Debug struct {
	// Where every request, answer and message goes, one JSON object a line, on the
	// side of clients and on that of servers: stderr, or the path of a file that is
	// appended to. Default: nowhere.
	Tap string `yaml:"tap"`
	// How much of a message is shown. Default 8KiB.
	MaxMessage Size `yaml:"max_message"`
}

// UpstreamTLS is how the certificate of a server is judged, and what is shown to it.
// The files are read again when they change.
type UpstreamTLS struct {
	// The file of the authorities, PEM, that are trusted in place of the system's.
	CA string `yaml:"ca"`
	// The file of a certificate to show to the server, PEM. With key.
	Certificate string `yaml:"certificate"`
	// The file of its private key, PEM. With certificate.
	Key string `yaml:"key"`
	// The name that must be in the server's certificate. Default: that in url.
	ServerName string `yaml:"server_name"`
}

// Timeouts is how long a server is waited for.
type Timeouts struct {
	// Finding and connecting to url; a TLS handshake may take half as long on top.
	// Default 3s.
	Connect Duration `yaml:"connect"`
	// The answer to a request. Each message of it, such as a notification of
	// progress, begins the wait anew, and a question to the client suspends it. Then
	// the client gets 504, or an error on the stream, and the server is told; "off"
	// for no end. Default 5m.
	Request Duration `yaml:"request" off:"true"`
	// The limit of a request however many messages come; "off" for none. Default 1h.
	Maximum Duration `yaml:"maximum" off:"true"`
}
