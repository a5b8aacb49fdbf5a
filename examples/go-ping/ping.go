// Command ping is a member of the job: without an argument the master, with the master's address a slave.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	port    = "7100"
	every   = 50 * time.Millisecond
	timeout = 300 * time.Millisecond
)

// counts tells how many pings came from each address.
type counts struct {
	mutex sync.Mutex
	pings map[string]int
}

func (c *counts) ping(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mutex.Lock()
	c.pings[host]++
	n := c.pings[host]
	c.mutex.Unlock()
	fmt.Fprintf(w, "pong %d\n", n)
}

func (c *counts) list(w http.ResponseWriter, _ *http.Request) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if err := json.NewEncoder(w).Encode(c.pings); err != nil {
		log.Printf("counts not sent: %v", err)
	}
}

func master(address string) error {
	c := &counts{pings: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/ping", c.ping)
	mux.HandleFunc("/counts", c.list)
	server := &http.Server{Addr: net.JoinHostPort(address, port), Handler: mux, ReadHeaderTimeout: time.Second}
	return server.ListenAndServe()
}

// slave pings for ever; it says when pings begin to fail and when they succeed again.
func slave(master string) {
	// A fresh connection for each ping: TCP's own retries back off for as long as a cut lasts.
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	failing := false
	for range time.Tick(every) {
		err := ping(client, "http://"+net.JoinHostPort(master, port)+"/ping")
		if failed := err != nil; failed != failing {
			failing = failed
			if failed {
				log.Printf("no pong: %v", err)
			} else {
				log.Print("pongs again")
			}
		}
	}
}

func ping(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

func main() {
	log.SetFlags(0)
	if len(os.Args) > 1 {
		slave(os.Args[1])
	}
	log.Fatal(master(os.Getenv("SYNDICATE_ADDRESS")))
}
