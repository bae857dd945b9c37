package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/connectraft/connect/client"
)

// A write ends in one of three ways, and the error says which.
func Example() {
	c, err := client.Open(client.Options{Addresses: []string{"127.0.0.1:7001", "127.0.0.1:7002"}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	result, err := c.Write(context.Background(), client.Command("incr"))
	switch {
	case err == nil:
		fmt.Printf("applied at log index %d: %s", result.Index, result.Answer)
	case errors.Is(err, client.ErrUnknown):
		fmt.Println("it may have been applied:", err)
	default:
		fmt.Println("not applied:", err)
	}
}

// In a session nothing is left open: what the cluster does not answer is sent again, and applied once.
func ExampleSession() {
	c, err := client.Open(client.Options{Addresses: []string{"127.0.0.1:7001", "127.0.0.1:7002"}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	session, err := c.OpenSession(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(context.Background())
	result, err := session.Do(context.Background(), client.Command("incr"))
	if err != nil {
		log.Fatal(err)
	}
	read, err := c.Group(1).Read(context.Background(), client.Command("get"),
		client.AtLeast(result.Index)) // one's own write, from any node
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("incremented to %s, read %s", result.Answer, read.Answer)
}
