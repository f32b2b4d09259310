// Command browser stands where $BROWSER points to: it hands the address it is called
// with to the test at $PERSON, which plays the person, and ends when that one has
// closed the window.
package main

import (
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatalf("called with %q, want one address", os.Args[1:])
	}
	resp, err := http.Post(os.Getenv("PERSON"), "text/plain", strings.NewReader(os.Args[1]))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		log.Fatal(resp.Status)
	}
}
