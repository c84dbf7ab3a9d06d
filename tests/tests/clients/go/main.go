// Go's clients; the first argument names one. What all of them do is here, what is one's own in its file.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"time"
)

type user struct {
	ID   int    `json:"id"`
	City string `json:"city"`
}

// What a client finds under a key: its value, or none.
type get func(key string) (value string, found bool)

func main() {
	clients := map[string]func(){"go-redis": goRedis, "rueidis": rueidisClient, "valkey-go": valkeyClient, "redigo": redigoClient}
	clients[os.Args[1]]()
}

func nodes() []string {
	return strings.Split(os.Getenv("NODES"), ",")
}

// The version of a module that this program is made of.
func version(path string) {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == path {
			fmt.Println(path, module.Version)
		}
	}
}

func read(get get, id int) user {
	text, found := get(fmt.Sprintf("user:%d", id))
	if !found {
		log.Fatalf("user:%d is missing", id)
	}
	return parse(text, id)
}

func parse(text string, id int) user {
	var of user
	if err := json.Unmarshal([]byte(text), &of); err != nil || of.ID != id {
		log.Fatalf("user:%d is %s: %v", id, text, err)
	}
	return of
}

// Reads rows, one that there is not, and one whose row changes meanwhile.
func reads(get get, id int, city string) {
	for id := 1; id < 60; id++ {
		read(get, id)
	}
	if value, found := get("user:424242"); found {
		log.Fatalf("an absent row is nothing, not %s", value)
	}
	change(get, id, city)
}

// Changes a row by SQL and reads it until the change is there.
func change(get get, id int, city string) {
	statement := fmt.Sprintf("UPDATE users SET city = '%s' WHERE id = %d", city, id)
	must(exec.Command(os.Getenv("SQL"), statement).Run())
	for end := time.Now().Add(30 * time.Second); read(get, id).City != city; {
		if time.Now().After(end) {
			log.Fatal("the change was not read in time")
		}
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
