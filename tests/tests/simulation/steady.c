/* Randomness from a seed, for the processes of the simulation: whatever asks the system for random bytes (hash tables, tokio's fairness,
   jitter) gets the same ones in every run of the same seed. Each thread begins anew, so that none depends on what others drew. Preloaded
   by tests/tests/simulation/batch.rs. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

static __thread uint64_t state;
static __thread int ready;

static uint64_t next(void) { /* splitmix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
    unsigned char *bytes = buffer;
    (void)flags;
    if (!ready) {
        const char *seed = getenv("FRESHLINE_STEADY_SEED");
        state = seed ? strtoull(seed, NULL, 10) : 0;
        ready = 1;
    }
    for (size_t at = 0; at < length; at++) bytes[at] = (unsigned char)(next() >> 32);
    return (ssize_t)length;
}

int getentropy(void *buffer, size_t length) {
    getrandom(buffer, length, 0);
    return 0;
}
