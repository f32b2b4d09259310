// Command browser stands where $BROWSER points to: it hands the address it is called
// with to the test at $PERSON, which plays the person, and ends when that one has
// closed the window.
package main

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	if err := visit(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func visit(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("called with %q, want one address", args)
	}
	resp, err := http.Post(os.Getenv("PERSON"), "text/plain", strings.NewReader(args[0]))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
