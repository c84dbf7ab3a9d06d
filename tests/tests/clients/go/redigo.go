package main

import (
	"log"

	"github.com/gomodule/redigo/redis"
)

// redigo: one node, which fetches foreign keys after READONLY; its pipelines, plain and as transactions.
func redigoClient() {
	version("github.com/gomodule/redigo")
	connection, err := redis.Dial("tcp", nodes()[0])
	must(err)
	defer connection.Close()
	_, err = connection.Do("READONLY")
	must(err)
	reads(func(key string) (string, bool) {
		text, err := redis.String(connection.Do("GET", key))
		if err == redis.ErrNil {
			return "", false
		}
		must(err)
		return text, true
	}, 23, "Redigoville")

	must(connection.Send("GET", "user:1"))
	must(connection.Send("GET", "user:2"))
	must(connection.Flush())
	for id := 1; id < 3; id++ {
		text, err := redis.String(connection.Receive())
		must(err)
		parse(text, id)
	}
	must(connection.Send("MULTI"))
	must(connection.Send("GET", "user:1"))
	must(connection.Send("GET", "user:2"))
	both, err := redis.Strings(connection.Do("EXEC"))
	must(err)
	if len(both) != 2 {
		log.Fatalf("EXEC is %v", both)
	}
	parse(both[1], 2)
}
