package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"

	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/authserver/control"
	"github.com/stile-mcp/stile/store"
)

// userCommand changes the local accounts of the embedded authorization server.
type userCommand struct {
	configFlag
	DataDir string `placeholder:"DIR" help:"The data_dir, in place of that of the configuration."`
	Do      string `arg:"" enum:"add,list,remove,passwd" help:"add, list, remove, or passwd for another password."`
	Name    string `arg:"" optional:"" help:"The name of the account; not with list."`
}

func (c *userCommand) run(p *process) error {
	if (c.Name == "") != (c.Do == "list") {
		return usageError{"user " + c.Do + ": " + map[bool]string{true: "takes no name", false: "give the name of the account"}[c.Do == "list"]}
	}
	dir, err := c.dir(p)
	if err != nil {
		return err
	}
	directory, closer, err := openDirectory(p.ctx, dir)
	if err != nil {
		return err
	}
	return errors.Join(c.change(p, directory), closer.Close())
}

// dir is the data_dir that is meant. Without any configuration it is the one that
// serve takes without a configuration.
func (c *userCommand) dir(p *process) (string, error) {
	if c.DataDir != "" {
		return c.DataDir, nil
	}
	f, err := load(c.Config, p.around)
	if c.Config == defaultConfigFile && errors.Is(err, fs.ErrNotExist) {
		return quickDir(p.around, defaultListen), nil
	}
	if err != nil {
		return "", err
	}
	if f.DataDir == "" {
		return "", fmt.Errorf("%s: data_dir is not set, so accounts are kept nowhere", c.Config)
	}
	return f.source.within(f.DataDir), nil
}

// change does what was asked, and says so.
func (c *userCommand) change(p *process, directory control.Directory) error {
	switch c.Do {
	case "list":
		return listAccounts(p, directory)
	case "remove":
		account, err := directory.Remove(p.ctx, c.Name)
		if err == nil {
			fmt.Fprintf(p.stdout, "%s was removed, with all that it had allowed\n", account.Name)
		}
		return err
	}
	password, err := newPassword(p, c.Name)
	if err != nil {
		return err
	}
	if c.Do == "add" {
		account, err := directory.Add(p.ctx, c.Name, password)
		if err == nil {
			fmt.Fprintf(p.stdout, "%s was added; the subject of its tokens is %s\n", account.Name, account.Subject)
		}
		return err
	}
	account, err := directory.SetPassword(p.ctx, c.Name, password)
	if err == nil {
		fmt.Fprintf(p.stdout, "%s has another password, and is signed out everywhere\n", account.Name)
	}
	return err
}

func listAccounts(p *process, directory control.Directory) error {
	accounts, err := directory.List(p.ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, a := range accounts {
		fmt.Fprintf(table, "%s\t%s\t%s\n", a.Name, a.Subject, a.Created.Format("2006-01-02"))
	}
	return table.Flush()
}

// openDirectory returns where the accounts of a data_dir are changed: through the
// server that runs on it, or in the store itself when none does.
func openDirectory(ctx context.Context, dir string) (control.Directory, io.Closer, error) {
	remote, err := control.Dial(ctx, dir)
	if err == nil {
		return remote, closers(nil), nil
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return nil, nil, err
	}
	opened, err := store.OpenBolt(dir)
	if err != nil {
		return nil, nil, err
	}
	// Grants are in the store whatever is served, so that no configuration is needed
	// to end them.
	grants, err := authserver.New(authserver.Config{Issuer: "http://localhost", Resources: []authserver.Resource{{URL: "http://localhost"}},
		Known: func(string) bool { return false }, Store: opened})
	if err != nil {
		return nil, nil, errors.Join(err, opened.Close())
	}
	return &control.Local{Accounts: grants.Accounts(), RevokeAll: grants.RevokeAll}, opened, nil
}
