package stepup_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/stepup"
	"github.com/stile-mcp/stile/stepup/loopback"
	"github.com/stile-mcp/stile/stepup/saved"
)

// A program with a person before it: the browser opens for the first login and for each
// scope that a call turns out to lack, and logins outlive the program.
func Example() {
	store, err := saved.Open(saved.Options{})
	if err != nil {
		log.Fatal(err)
	}
	transport, err := stepup.New(stepup.Config{
		Person: loopback.New(loopback.Config{Out: os.Stderr}),
		Store:  store,
	})
	if err != nil {
		log.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "example", Version: "1"}, nil)
	session, err := client.Connect(context.Background(), &mcp.StreamableClientTransport{
		Endpoint:   "https://mcp.example.com/mcp",
		HTTPClient: &http.Client{Transport: transport},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	if _, err := session.CallTool(context.Background(), &mcp.CallToolParams{Name: "delete_note"}); err != nil {
		log.Fatal(err)
	}
}

// A program without a person, and what it says when a call is refused for good.
func ExampleExplanation() {
	transport, err := stepup.New(stepup.Config{
		Grant:  &stepup.ClientCredentials{},
		Client: stepup.Client{ID: "nightly", Secret: os.Getenv("NIGHTLY_SECRET")},
	})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	resp, err := client.Get("https://mcp.example.com/mcp")
	if err != nil {
		log.Fatal(err) // a login that failed is a *stepup.Error
	}
	defer resp.Body.Close()
	if why := stepup.Explanation(resp); why != nil {
		fmt.Println(why)
	}
}
