// Package control lets commands on the same machine change the accounts of a
// running server, which has its store to itself.
//
// They talk over a socket in data_dir, which only the owner of that folder can
// reach (mode 0700, the socket 0600): whoever can speak there can read the store
// as well. There is no other way in, and nothing of it is on the network.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stile-mcp/stile/authserver/people"
)

// Socket is the name of the socket in data_dir.
const Socket = "control.sock"

// maxPath is how long the path of a socket may be: less than any system's limit.
const maxPath = 100

// ErrNotRunning is that nobody serves a data_dir.
var ErrNotRunning = errors.New("no server is running on this data_dir")

// Directory is where accounts are changed: *Local for whoever has the store, and
// *Remote for whoever asks the one who has it.
type Directory interface {
	Add(ctx context.Context, name, password string) (people.Account, error)
	List(ctx context.Context) ([]people.Account, error)
	Remove(ctx context.Context, name string) (people.Account, error)
	SetPassword(ctx context.Context, name, password string) (people.Account, error)
}

// Local changes accounts in the store.
type Local struct {
	*people.Accounts
	// RevokeAll ends all grants of a subject whose account was removed.
	RevokeAll func(ctx context.Context, subject string) error
}

// Remove takes an account away and ends its grants. When those cannot be ended the
// account is gone all the same, and the error says so.
func (l *Local) Remove(ctx context.Context, name string) (people.Account, error) {
	account, err := l.Accounts.Remove(ctx, name)
	if err != nil {
		return account, err
	}
	if err := l.RevokeAll(ctx, account.Subject); err != nil {
		return account, fmt.Errorf("the account of %s was removed, but not what it had allowed: %w", account.Name, err)
	}
	return account, nil
}

// command is what is asked over the socket.
type command struct {
	Do       string `json:"do"` // add, list, remove or passwd
	Name     string `json:"name,omitempty"`
	Password string `json:"password,omitempty"`
}

// outcome is what is answered. Hashes of passwords are left out.
type outcome struct {
	Accounts []people.Account `json:"accounts,omitempty"`
	Reason   string           `json:"reason,omitempty"` // which of the errors below
	Error    string           `json:"error,omitempty"`
}

// reasons are the errors that the other side knows.
var reasons = map[string]error{
	"name": people.ErrName, "password": people.ErrPassword, "taken": people.ErrTaken, "unknown": people.ErrUnknown, "full": people.ErrFull,
}

// Serve answers commands for the directory until the returned function is called.
// A socket that a dead process left is replaced; a live one is an error.
func Serve(dataDir string, directory Directory) (stop func() error, err error) {
	path := filepath.Join(dataDir, Socket)
	if len(path) > maxPath {
		return nil, fmt.Errorf("%s: the path of a socket is at most %d bytes; choose a shorter data_dir", path, maxPath)
	}
	if connection, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("%s: another server is running on this data_dir", path), connection.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: handler(directory), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10}
	go func() { _ = server.Serve(listener) }() // ends with Close
	return server.Close, nil
}

func handler(directory Directory) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		var c command
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&c); err != nil {
			http.Error(w, "this is not a command", http.StatusBadRequest)
			return
		}
		accounts, err := obey(r.Context(), directory, c)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(tell(accounts, err)) // whoever asked has left
	})
	return mux
}

func obey(ctx context.Context, directory Directory, c command) ([]people.Account, error) {
	one := func(account people.Account, err error) ([]people.Account, error) {
		return []people.Account{account}, err
	}
	switch c.Do {
	case "add":
		return one(directory.Add(ctx, c.Name, c.Password))
	case "remove":
		return one(directory.Remove(ctx, c.Name))
	case "passwd":
		return one(directory.SetPassword(ctx, c.Name, c.Password))
	case "list":
		return directory.List(ctx)
	}
	return nil, fmt.Errorf("%.20q is no command of this version", c.Do)
}

func tell(accounts []people.Account, err error) outcome {
	var o outcome
	for _, a := range accounts {
		a.Hash, a.Epoch = "", ""
		o.Accounts = append(o.Accounts, a)
	}
	if err != nil {
		o.Error = err.Error()
		for reason, known := range reasons {
			if errors.Is(err, known) {
				o.Reason = reason
			}
		}
	}
	return o
}

// Remote changes accounts through the server that runs on a data_dir.
type Remote struct{ client *http.Client }

// Dial returns the running server of a data_dir, or ErrNotRunning.
func Dial(ctx context.Context, dataDir string) (*Remote, error) {
	path := filepath.Join(dataDir, Socket)
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	connection, err := dialer.DialContext(ctx, "unix", path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", path)
	}, DisableKeepAlives: true}
	return &Remote{&http.Client{Transport: transport, Timeout: 30 * time.Second}}, connection.Close()
}

// remote is an error that the server told, and the one of ours that it is.
type remote struct {
	text  string
	known error
}

func (r *remote) Error() string { return r.text }
func (r *remote) Unwrap() error { return r.known }

func (r *Remote) ask(ctx context.Context, c command) ([]people.Account, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://stile/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := r.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the running server: %w", err)
	}
	defer answer.Body.Close()
	var o outcome
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&o); err != nil {
		return nil, fmt.Errorf("the running server answered %s: %w", answer.Status, err)
	}
	if o.Error != "" {
		return nil, &remote{o.Error, reasons[o.Reason]}
	}
	return o.Accounts, nil
}

func (r *Remote) one(ctx context.Context, c command) (people.Account, error) {
	accounts, err := r.ask(ctx, c)
	if err == nil && len(accounts) != 1 {
		err = errors.New("the running server answered with no account")
	}
	if err != nil {
		return people.Account{}, err
	}
	return accounts[0], nil
}

// Add makes an account.
func (r *Remote) Add(ctx context.Context, name, password string) (people.Account, error) {
	return r.one(ctx, command{Do: "add", Name: name, Password: password})
}

// List returns all accounts.
func (r *Remote) List(ctx context.Context) ([]people.Account, error) {
	return r.ask(ctx, command{Do: "list"})
}

// Remove takes an account away, with its grants.
func (r *Remote) Remove(ctx context.Context, name string) (people.Account, error) {
	return r.one(ctx, command{Do: "remove", Name: name})
}

// SetPassword gives an account another password.
func (r *Remote) SetPassword(ctx context.Context, name, password string) (people.Account, error) {
	return r.one(ctx, command{Do: "passwd", Name: name, Password: password})
}
