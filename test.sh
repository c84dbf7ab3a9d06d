#!/usr/bin/env bash
# Runs Freshline's tests and installs what they need. The last line is `N passed, N failed`.
#
#   ./test.sh               everything: formatting, lints, unit tests, model, simulation, api, containers, clients, deploy, chaos
#   ./test.sh lint          formatting and lints
#   ./test.sh unit          tests that need no container engine
#   ./test.sh model         the freshness protocol, searched exhaustively; FRESHLINE_MODEL=large or traces: more of it, its traces
#   ./test.sh simulation    the freshness protocol on simulated machines: 2000 seeds, or FRESHLINE_SEEDS
#   ./test.sh api           the HTTP API against its own document, by schemathesis (FRESHLINE_API_EXAMPLES=1000: more of it)
#   ./test.sh containers    tests against real MySQL, MariaDB, Canal, Debezium, Maxwell, Kafka and etcd in containers
#   ./test.sh clients       real Redis clients in seven languages, and tools, against the embedded stack
#   ./test.sh deploy        the compose files of deploy/, brought up, broken and ended (takes the demo's ports)
#   ./test.sh chaos         real processes broken on purpose under load, for two minutes (FRESHLINE_CHAOS=30m: longer)
#
# As root on Debian it installs missing system packages, a container engine and the local images by itself; elsewhere it says
# what is missing. Builds and downloads are kept outside the repository, in $FRESHLINE_CACHE (default: ~/.cache/freshline); a second
# run, of this checkout or another one, waits for the first. FRESHLINE_TEST_SPACE: GiB that must be free before it begins (20).
set -uo pipefail
cd "$(dirname "$0")"

cache=${FRESHLINE_CACHE:-$HOME/.cache/freshline}
mkdir -p "$cache"
export FRESHLINE_CACHE=$cache
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
layer=${1:-all}
case $layer in all | lint | unit | model | simulation | api | containers | clients | deploy | chaos) ;; *)
    sed -n '2,17s/^# \{0,1\}//p' "${0##*/}" >&2
    exit 2
    ;;
esac

# One run at a time, of all checkouts: they share the build folder, the ports of deploy/ and the processors. `--close` keeps what the run
# leaves behind (the container engine) from holding the lock.
lock=$cache/test.lock
if [ "${FRESHLINE_TEST_LOCK:-}" != "$lock" ] && command -v flock >/dev/null; then
    if ! flock --nonblock "$lock" true; then
        echo "another ./test.sh runs ($(cat "$lock")): waiting for its end" >&2
    fi
    FRESHLINE_TEST_LOCK=$lock exec flock --close "$lock" "./${0##*/}" "$@"
fi
echo "process $$ in $PWD, layer $layer" >"$lock"
log=$cache/test.log
: >"$log"

space=${FRESHLINE_TEST_SPACE:-20} # GiB
api_policy=${FRESHLINE_API:-required} # `off` leaves the layer's test out, and it says so

steps_passed=0
steps_failed=0
step() { # NAME COMMAND...: a step that counts as one test
    local name=$1
    shift
    printf '== %s\n' "$name"
    if "$@"; then
        steps_passed=$((steps_passed + 1))
    else
        steps_failed=$((steps_failed + 1))
        printf 'FAILED: %s\n' "$name"
    fi
}

need_build_tools() {
    local missing=()
    command -v cargo >/dev/null || { echo "cargo is missing: install Rust by https://rustup.rs, then run this again" >&2; return 1; }
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v c++ >/dev/null || missing+=(g++)
    command -v make >/dev/null || missing+=(make)
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
    else
        echo "missing: ${missing[*]}; install them, then run this again" >&2
        return 1
    fi
}

# Builds, images and containers of a whole run take this much. A full disk shows as databases that don't start.
need_space() {
    local free
    free=$(df -Pk "$cache" | awk 'NR == 2 { print int($4 / 1048576) }')
    if [ "$free" -lt "$space" ] && [ "$CARGO_TARGET_DIR" = "$cache/target" ]; then
        echo "$free GiB free, a run takes up to $space: emptying the build folder $CARGO_TARGET_DIR"
        rm -rf "$CARGO_TARGET_DIR"
        free=$(df -Pk "$cache" | awk 'NR == 2 { print int($4 / 1048576) }')
    fi
    [ "$free" -ge "$space" ] && return 0
    echo "$free GiB free where $cache is, a run takes up to $space: make room, or set FRESHLINE_CACHE to a folder that has it" \
        "(FRESHLINE_TEST_SPACE=$free tries all the same)" >&2
    return 1
}

# etcd's own binary, for the tests of the membership: unpacked, not installed, so that no service is started on anyone's machine.
find_etcd() {
    command -v etcd >/dev/null && return 0
    export PATH=$cache/etcd/usr/bin:$PATH
    command -v etcd >/dev/null && return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
        echo "no etcd binary in PATH: install etcd for the membership's tests" >&2
        return 1
    }
    mkdir -p "$cache/etcd" && (
        cd "$cache/etcd" || exit 1
        apt-get download -qq etcd-server 2>/dev/null || { apt-get update -qq && apt-get download -qq etcd-server; } || exit 1
        dpkg-deb -x etcd-server_*.deb .
    )
    command -v etcd >/dev/null
}

lint() {
    step "cargo fmt" cargo fmt --all --check
    step "cargo clippy" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
    # The same selection of packages as for the unit tests, so that nothing is built twice.
    step "spawned tasks" cargo test --workspace --test tasks --locked --quiet
    step "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
}

tests() { # NAME ARGS...: runs cargo test; its tests are counted from its output, so the step itself counts only if it broke
    local name=$1 output=$cache/step.log
    shift
    printf '== %s\n' "$name"
    cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$output"
    local status=${PIPESTATUS[0]}
    cat "$output" >>"$log"
    if [ "$status" -ne 0 ] && ! grep -q '^test result: FAILED' "$output"; then
        steps_failed=$((steps_failed + 1))
        printf 'FAILED: %s (no test ran to its end)\n' "$name"
    fi
}

unit() {
    step "etcd binary" find_etcd
    export FRESHLINE_CONTAINERS=off FRESHLINE_MODEL=off FRESHLINE_SIMULATION=off FRESHLINE_API=off FRESHLINE_CLIENTS=off # layers of their own
    tests "unit tests" --workspace
    tests "the store's interleavings" --workspace --features freshline-memory/shuttle --lib store::interleavings
    unset FRESHLINE_CONTAINERS FRESHLINE_MODEL FRESHLINE_SIMULATION FRESHLINE_API FRESHLINE_CLIENTS
}

model() {
    # The same selection of packages as for the unit tests, so that nothing is built twice.
    tests "model" --workspace --test model
}

simulation() {
    FRESHLINE_SEEDS=${FRESHLINE_SEEDS:-2000} tests "simulation" --profile simulation -p tests --test simulation
}

# schemathesis from PyPI, in a virtual environment of its own; the version is the one that cache-node/tests/api.rs asks for.
find_schemathesis() {
    local version venv
    version=$(sed -n 's/^const VERSION: &str = "\(.*\)";$/\1/p' cache-node/tests/api.rs)
    venv=$cache/schemathesis-$version
    [ -x "$venv/bin/schemathesis" ] && return 0
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            DEBIAN_FRONTEND=noninteractive apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv || return 1
        else
            echo "missing: python3 with venv (Debian: python3-venv); install it, then run this again" >&2
            return 1
        fi
    fi
    python3 -m venv "$venv" && "$venv/bin/pip" install -q "schemathesis==$version" && return 0
    rm -rf "$venv" # half an environment would look like a whole one
    return 1
}

api() {
    [ "$api_policy" = off ] || step "schemathesis" find_schemathesis
    export FRESHLINE_API=$api_policy
    # The same selection of packages as for the unit tests, so that nothing is built twice.
    tests "api" --workspace --test api
    unset FRESHLINE_API
}

on_containers() { # IMAGES NAME TARGETS...: runs test targets that need an engine, these images and our binaries
    local images
    read -ra images <<<"$1"
    shift
    step "container engine" deploy/images/engine.sh || return
    step "container images" deploy/images/build.sh "${images[@]}" || return
    export FRESHLINE_CONTAINERS=required
    # The same selection of packages as for the unit tests, so that nothing is built twice; the binaries come with it.
    cargo test --locked --workspace --no-run --quiet || { steps_failed=$((steps_failed + 1)); return; }
    export FRESHLINE_BIN_DIR=$CARGO_TARGET_DIR/debug
    tests "$@"
    unset FRESHLINE_CONTAINERS
}

containers() {
    on_containers "mysql mariadb kafka canal debezium maxwell etcd" "container tests" --workspace --test containers --test mysql --test switchover
}

clients() {
    step "Redis clients" tests/tests/clients/install.sh || return
    export FRESHLINE_CLIENTS=required
    # The same selection of packages as for the unit tests, so that nothing is built twice; the binaries come with it.
    cargo test --locked --workspace --no-run --quiet || { steps_failed=$((steps_failed + 1)); return; }
    export FRESHLINE_BIN_DIR=$CARGO_TARGET_DIR/debug
    tests "Redis clients" --workspace --test clients
    unset FRESHLINE_CLIENTS
}

deployments() {
    step "container engine" deploy/images/engine.sh || return
    # The same selection of packages as for the unit tests, so that nothing is built twice; the binaries come with it.
    cargo test --locked --workspace --no-run --quiet || { steps_failed=$((steps_failed + 1)); return; }
    export FRESHLINE_BIN_DIR=$CARGO_TARGET_DIR/debug
    step "small deployment" deploy/check.sh --small
    step "large deployment" deploy/check.sh
    unset FRESHLINE_BIN_DIR
}

chaos() {
    on_containers "mysql kafka canal etcd" "chaos" --workspace --test chaos
}

started=$SECONDS
if need_space && need_build_tools; then
    case $layer in
        all) lint; unit; model; simulation; api; containers; clients; deployments; chaos ;;
        deploy) deployments ;;
        *) "$layer" ;;
    esac
else
    steps_failed=1
fi

read -r passed failed < <(awk '/^test result:/ { for (i = 1; i <= NF; i++) { if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i } }
    END { print p + 0, f + 0 }' "$log")
printf 'took %d s\n' $((SECONDS - started))
printf '%d passed, %d failed\n' $((passed + steps_passed)) $((failed + steps_failed))
[ $((failed + steps_failed)) -eq 0 ]
