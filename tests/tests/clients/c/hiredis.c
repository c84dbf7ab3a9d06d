// hiredis: one node, a pipeline that is written whole before it is read, a transaction, and a cache of the caller's own in RESP2: one connection
// reads, another is told what has changed.
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static void check(int right, const char *what)
{
    if (!right) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static redisContext *dial(void)
{
    char host[128];
    int port;
    check(sscanf(getenv("NODES"), "%127[^:]:%d", host, &port) == 2, "NODES");
    redisContext *context = redisConnect(host, port);
    check(context && !context->err, "a connection");
    return context;
}

static redisReply *ask(redisContext *context, const char *words)
{
    redisReply *reply = redisCommand(context, words);
    check(reply != NULL, context->errstr);
    check(reply->type != REDIS_REPLY_ERROR || !strncmp(reply->str, "MOVED", 5), reply->str);
    return reply;
}

static void change(int id, const char *city)
{
    char command[512];
    snprintf(command, sizeof command, "\"%s\" \"UPDATE users SET city = '%s' WHERE id = %d\"", getenv("SQL"), city, id);
    check(system(command) == 0, "the UPDATE");
}

int main(void)
{
    printf("hiredis %d.%d.%d\n", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    redisContext *context = dial();
    freeReplyObject(ask(context, "READONLY"));
    redisReply *absent = ask(context, "GET user:424242");
    check(absent->type == REDIS_REPLY_NIL, "an absent row is nil");
    freeReplyObject(absent);

    // More than the sockets' buffers take, either way.
    char padding[1001];
    memset(padding, 'x', 1000);
    padding[1000] = 0;
    for (int n = 0; n < 40000; n++)
        redisAppendCommand(context, "ECHO %s", padding);
    for (int n = 0; n < 50; n++)
        redisAppendCommand(context, "GET user:%d", n + 1);
    for (int n = 0; n < 40050; n++) {
        redisReply *reply = NULL;
        check(redisGetReply(context, (void **)&reply) == REDIS_OK, "a reply of the pipeline");
        check(n < 40000 ? reply->len == 1000 : reply->type == REDIS_REPLY_STRING && reply->len > 20, "it is its own");
        freeReplyObject(reply);
    }

    redisAppendCommand(context, "MULTI");
    redisAppendCommand(context, "GET user:1");
    redisAppendCommand(context, "PTTL user:1");
    redisAppendCommand(context, "EXEC");
    for (int n = 0; n < 4; n++) {
        redisReply *reply = NULL;
        check(redisGetReply(context, (void **)&reply) == REDIS_OK, "a reply of the transaction");
        check(n < 3 || (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && strstr(reply->element[0]->str, "\"id\":1,")), "EXEC");
        freeReplyObject(reply);
    }

    redisContext *reader = dial(), *listener = dial();
    redisReply *id = ask(listener, "CLIENT ID");
    redisReply *subscribed = ask(listener, "SUBSCRIBE __redis__:invalidate");
    char tracking[64];
    snprintf(tracking, sizeof tracking, "CLIENT TRACKING ON REDIRECT %lld", id->integer);
    freeReplyObject(ask(reader, tracking));
    int own = 40;
    for (long long left = -2;; own++) { // one that this node keeps: it fetches those of others and keeps nothing of them
        char words[64];
        snprintf(words, sizeof words, "GET user:%d", own);
        freeReplyObject(ask(context, words));
        snprintf(words, sizeof words, "PTTL user:%d", own);
        redisReply *reply = ask(context, words);
        left = reply->integer;
        freeReplyObject(reply);
        if (left > 0)
            break;
    }
    char get[64];
    snprintf(get, sizeof get, "GET user:%d", own);
    freeReplyObject(ask(reader, get));
    struct timeval most = {30, 0};
    check(redisSetTimeout(listener, most) == REDIS_OK, "a timeout");
    char city[32], key[32];
    snprintf(city, sizeof city, "Hiville %d", getpid());
    change(own, city);
    snprintf(key, sizeof key, "user:%d", own);
    redisReply *told = NULL;
    check(redisGetReply(listener, (void **)&told) == REDIS_OK, "it is told");
    check(told->elements == 3 && told->element[2]->elements == 1 && !strcmp(told->element[2]->element[0]->str, key), "of this key");
    freeReplyObject(told);
    freeReplyObject(id);
    freeReplyObject(subscribed);
    redisFree(reader);
    redisFree(listener);
    redisFree(context);
    return 0;
}
