package main

import (
	"context"
	"log"
	"time"

	"github.com/redis/rueidis"
)

// rueidis: a cluster client, reads, a pipeline, and its client-side cache, which is on by default.
func rueidisClient() {
	version("github.com/redis/rueidis")
	ctx := context.Background()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: nodes()})
	must(err)
	defer client.Close()
	found := func(result rueidis.RedisResult) (string, bool) {
		text, err := result.ToString()
		if rueidis.IsRedisNil(err) {
			return "", false
		}
		must(err)
		return text, true
	}
	reads(func(key string) (string, bool) {
		return found(client.Do(ctx, client.B().Get().Key(key).Build()))
	}, 21, "Rueville")

	keys, commands := []string{"user:1", "user:2", "user:3"}, rueidis.Commands{}
	for _, key := range keys {
		commands = append(commands, client.B().Get().Key(key).Build())
	}
	for at, result := range client.DoMulti(ctx, commands...) {
		text, _ := found(result)
		parse(text, at+1)
	}

	// Kept here for an hour, unless the node tells that it has changed.
	kept := false
	cached := func(key string) (string, bool) {
		result := client.DoCache(ctx, client.B().Get().Key(key).Cache(), time.Hour)
		kept = result.IsCacheHit()
		return found(result)
	}
	for end := time.Now().Add(30 * time.Second); !kept; read(cached, 21) {
		if time.Now().After(end) {
			log.Fatal("a value is kept by the client")
		}
	}
	change(cached, 21, "Pushed by Rueville")
	for at, result := range client.DoMultiCache(ctx, rueidis.CT(client.B().Get().Key("user:1").Cache(), time.Hour), rueidis.CT(client.B().Get().Key("user:2").Cache(), time.Hour)) {
		text, _ := found(result)
		parse(text, at+1)
	}
}
