package main

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/stile-mcp/stile/internal/problem"
)

// certificates are what the listener shows and asks for, and the files of it.
type certificates struct {
	config *tls.Config
	files  []string
}

// readCertificates reads every file of certificates and tells what is wrong with
// them.
func (f *File) readCertificates(around surroundings) mistakes {
	var list problem.List
	if f.TLS != nil && f.TLS.Certificate != "" && f.TLS.Key != "" {
		f.certificates = f.readListener(around, &list)
	}
	for _, server := range f.Servers {
		if server.Value.TLS != nil {
			if f.upstreamTLS == nil {
				f.upstreamTLS = map[string]*tls.Config{}
			}
			f.upstreamTLS[server.Name] = f.readUpstream(around, &list, join("servers", server.Name)+".tls", server.Value.TLS)
		}
	}
	return f.source.locateAll(list, "")
}

// readListener makes what the listener needs, nil with a mistake.
func (f *File) readListener(around surroundings, list *problem.List) *certificates {
	before := len(*list)
	pair := f.readPair(around, list, "tls", f.TLS.Certificate, f.TLS.Key)
	c := &certificates{files: []string{f.source.within(f.TLS.Certificate), f.source.within(f.TLS.Key)},
		config: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}}
	if f.TLS.ClientCA != "" {
		c.files = append(c.files, f.source.within(f.TLS.ClientCA))
		c.config.ClientAuth = tls.RequireAndVerifyClientCert
		c.config.ClientCAs = f.readPool(around, list, "tls.client_ca", f.TLS.ClientCA)
		// A ticket would outlive a change of the authorities.
		c.config.SessionTicketsDisabled = true
	}
	if len(*list) > before {
		return nil
	}
	return c
}

// readUpstream makes how https is spoken to a server.
func (f *File) readUpstream(around surroundings, list *problem.List, at string, t *UpstreamTLS) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		config.RootCAs = f.readPool(around, list, at+".ca", t.CA)
	}
	if t.Certificate != "" && t.Key != "" {
		config.Certificates = []tls.Certificate{f.readPair(around, list, at, t.Certificate, t.Key)}
	}
	return config
}

// readPair reads a certificate and its key.
func (f *File) readPair(around surroundings, list *problem.List, at, certificate, key string) tls.Certificate {
	before := len(*list)
	shown := f.readPEM(around, list, at+".certificate", certificate)
	secret := f.readPEM(around, list, at+".key", key)
	if len(*list) > before {
		return tls.Certificate{}
	}
	pair, err := tls.X509KeyPair(shown, secret)
	if err != nil { // the text of the error names no part of the key
		list.Add(at+".certificate", certificate, "expected a certificate in PEM that belongs to the key: "+err.Error())
	}
	return pair
}

// readPool reads certificates of authorities.
func (f *File) readPool(around surroundings, list *problem.List, at, name string) *x509.CertPool {
	pool := x509.NewCertPool()
	if data := f.readPEM(around, list, at, name); data != nil && !pool.AppendCertsFromPEM(data) {
		list.Add(at, name, "expected certificates in PEM")
	}
	return pool
}

func (f *File) readPEM(around surroundings, list *problem.List, at, name string) []byte {
	data, err := around.read(f.source.within(name))
	if err != nil {
		list.Add(at, name, "expected a file that can be read: "+plainFileError(err).Error())
	}
	return data
}

// certificateFiles are the files that servers are reached by: a change of one is a
// change of the configuration.
func (f *File) certificateFiles() []string {
	var files []string
	for _, server := range f.Servers {
		if t := server.Value.TLS; t != nil {
			for _, name := range []string{t.CA, t.Certificate, t.Key} {
				if name != "" {
					files = append(files, f.source.within(name))
				}
			}
		}
	}
	return files
}
