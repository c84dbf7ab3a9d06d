package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/redis/go-redis/v9"
)

// go-redis: a cluster client, reads, pipelines, plain and as transactions.
func goRedis() {
	version("github.com/redis/go-redis/v9")
	ctx := context.Background()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: nodes()})
	defer cluster.Close()
	reads(func(key string) (string, bool) {
		text, err := cluster.Get(ctx, key).Result()
		if err == redis.Nil {
			return "", false
		}
		must(err)
		return text, true
	}, 13, "Goville")
	piped, err := cluster.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for id := 1; id < 60; id++ {
			pipe.Get(ctx, fmt.Sprintf("user:%d", id))
		}
		return nil
	})
	must(err)
	for at, command := range piped {
		parse(command.(*redis.StringCmd).Val(), at+1)
	}
	// A transaction is of one slot, as in Redis Cluster. What was read within a removal's quarantine is not kept, and has no time left.
	for end := time.Now().Add(30 * time.Second); ; {
		queued, err := cluster.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Get(ctx, "user:13")
			pipe.PTTL(ctx, "user:13")
			return nil
		})
		must(err)
		parse(queued[0].(*redis.StringCmd).Val(), 13)
		if queued[1].(*redis.DurationCmd).Val() > 0 {
			break
		}
		if time.Now().After(end) {
			log.Fatal("a key in memory has time left")
		}
	}
}
