package stile_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// connectCommands are the command lines of stile connect that a document shows: in
// configurations of clients and in terminals. Each is a shell's.
func connectCommands(t *testing.T, file string) (lines []string) {
	t.Helper()
	for _, block := range fencedBlocks(t, file, "json") {
		var config map[string]map[string]struct {
			Command string
			Args    []string
			Env     map[string]string
		}
		if err := json.Unmarshal([]byte(block), &config); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, block)
		}
		for _, servers := range config {
			for _, s := range servers {
				lines = append(lines, commandLine(s.Command, s.Args, s.Env))
			}
		}
	}
	inTOML := regexp.MustCompile(`(?m)^command = "(.*)"\nargs = (\[.*\])$`)
	for _, block := range fencedBlocks(t, file, "toml") {
		m := inTOML.FindStringSubmatch(block)
		if m == nil {
			t.Fatalf("%s: no command in\n%s", file, block)
		}
		var args []string
		if err := json.Unmarshal([]byte(m[2]), &args); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, block)
		}
		lines = append(lines, commandLine(m[1], args, nil))
	}
	for _, block := range fencedBlocks(t, file, "") {
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			if _, after, ok := strings.Cut(line, " -- stile "); ok {
				line = "stile " + after
			}
			if strings.HasPrefix(line, "stile connect ") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// commandLine is what a client starts, in a shell's words.
func commandLine(command string, args []string, env map[string]string) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	line := command
	for _, a := range args {
		line += " " + quote(a)
	}
	for name, value := range env {
		line = name + "=" + quote(value) + " " + line
	}
	return line
}

// TestConnectDocument understands every command of docs/connect.md and README.md: each
// is run to the point where it would log in, and forgets that login instead.
func TestConnectDocument(t *testing.T) {
	bin := filepath.Dir(buildStile(t))
	folder := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}}
	certificate, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"ca.pem":  string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		"secret":  "secret\n", "id.jwt": "e30.e30.e30\n",
	} {
		writeDoc(t, filepath.Join(folder, name), text)
	}
	lines, more := connectCommands(t, "docs/connect.md"), connectCommands(t, "README.md")
	if len(lines) < 12 || len(more) < 1 {
		t.Errorf("docs/connect.md has %d commands only, README.md %d: %q", len(lines), len(more), lines)
	}
	for _, line := range append(lines, more...) {
		if !strings.Contains(line, "--list") && !strings.Contains(line, "--logout") {
			line = strings.Replace(strings.Replace(line, " '--login'", "", 1), " --login", "", 1) + " --logout"
		}
		c := exec.Command("sh", "-c", line)
		c.Dir = folder
		c.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "STILE_HOME="+filepath.Join(folder, "home"))
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "there is no login to https://mcp.example.com/mcp") && !strings.Contains(string(out), "no logins in") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}
