// go-redis: a cluster client, reads, a pipeline, and a change by SQL.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

type user struct {
	ID   int    `json:"id"`
	City string `json:"city"`
}

func main() {
	ctx := context.Background()
	fmt.Println("go-redis", redis.Version())
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: strings.Split(os.Getenv("NODES"), ",")})
	defer cluster.Close()
	read := func(id int) user {
		text, err := cluster.Get(ctx, fmt.Sprintf("user:%d", id)).Result()
		if err != nil {
			log.Fatalf("user:%d: %v", id, err)
		}
		var found user
		if err := json.Unmarshal([]byte(text), &found); err != nil || found.ID != id {
			log.Fatalf("user:%d is %s: %v", id, text, err)
		}
		return found
	}
	for id := 1; id < 60; id++ {
		read(id)
	}
	if err := cluster.Get(ctx, "user:424242").Err(); err != redis.Nil {
		log.Fatalf("an absent row is nil, not %v", err)
	}
	_, err := cluster.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for id := 1; id < 60; id++ {
			pipe.Get(ctx, fmt.Sprintf("user:%d", id))
		}
		return nil
	})
	if err != nil {
		log.Fatalf("pipeline: %v", err)
	}
	if err := exec.Command(os.Getenv("SQL"), "UPDATE users SET city = 'Goville' WHERE id = 13").Run(); err != nil {
		log.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); read(13).City != "Goville"; {
		if time.Now().After(end) {
			log.Fatal("the change was not read in time")
		}
	}
}
