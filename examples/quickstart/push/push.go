// Tells everybody in the room `deploys` of a new version: go run push.go VERSION
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

// Message is what is published. With the same IdempotencyKey again, nothing is published twice.
type Message struct {
	Room           string `json:"room"`
	Type           string `json:"type"`
	Data           any    `json:"data"`
	IdempotencyKey string `json:"idempotencyKey"`
}

// Placed says where the message is.
type Placed struct {
	Offset    uint64 `json:"offset"`
	Members   int    `json:"members"`
	Duplicate bool   `json:"duplicate"`
}

var client = &http.Client{Timeout: 10 * time.Second}

func publish(hub, key string, message Message) (placed Placed, err error) {
	body, err := json.Marshal(message)
	if err != nil {
		return placed, err
	}
	request, err := http.NewRequest(http.MethodPost, hub+"/api/v1/publish", bytes.NewReader(body))
	if err != nil {
		return placed, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return placed, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(answer.Body)
		return placed, fmt.Errorf("%s: %s", answer.Status, why)
	}
	return placed, json.NewDecoder(answer.Body).Decode(&placed)
}

func main() {
	hub, version := os.Getenv("HUB"), os.Args[1]
	if hub == "" {
		hub = "http://localhost:8080"
	}
	data := map[string]string{"version": version}
	placed, err := publish(hub, os.Getenv("KEY"), Message{"deploys", "deploy", data, "deploy-" + version})
	if err != nil {
		log.Fatal(err)
	}
	known := ""
	if placed.Duplicate {
		known = ", which was there already"
	}
	fmt.Printf("%s is message %d%s; members: %d\n", version, placed.Offset, known, placed.Members)
}
