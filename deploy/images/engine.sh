#!/bin/bash
# Makes sure that a container engine answers. Quick when it already does.
#
# As root on Debian a missing engine is installed from the configured package
# mirror, and a stopped one is started by hand (no init system needed).
# Sourced, it offers `ensure_engine`; run, it calls it.
set -euo pipefail

engine_cache=${FRESHLINE_CACHE:-$HOME/.cache/freshline}

engine_fail() { echo "engine.sh: $*" >&2; exit 1; }

# `docker info` fails on a daemon older or newer than the client can speak to,
# unless DOCKER_API_VERSION names a version both know.
engine_answers() {
    command -v docker >/dev/null || return 1
    docker info >/dev/null 2>&1 && return 0
    local said wanted
    said=$(docker info 2>&1 || true)
    wanted=$(sed -nE 's/.*(Maximum|[Mm]inimum) supported API version is ([0-9]+\.[0-9]+).*/\2/p' <<<"$said" | head -1)
    [ -n "$wanted" ] || return 1
    DOCKER_API_VERSION=$wanted docker info >/dev/null 2>&1 || return 1
    export DOCKER_API_VERSION=$wanted
    echo "engine.sh: client and daemon differ, using DOCKER_API_VERSION=$wanted" >&2
}

engine_install() {
    command -v dockerd >/dev/null && command -v docker >/dev/null && command -v iptables >/dev/null && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        engine_fail "no container engine answers: install docker (or start it), then run this again"
    echo "engine.sh: installing docker.io" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null
    apt-get install -y -q --no-install-recommends docker.io iptables ca-certificates >/dev/null
}

engine_start() {
    [ "$(id -u)" = 0 ] || engine_fail "docker is installed but doesn't answer: start its daemon as root"
    # Another start may be under way; a second daemon would only fight over the pid file.
    if ! pgrep -x dockerd >/dev/null; then
        rm -f /var/run/docker.pid
        mkdir -p "$engine_cache"
        echo "engine.sh: starting dockerd, log in $engine_cache/dockerd.log" >&2
        setsid nohup dockerd >>"$engine_cache/dockerd.log" 2>&1 </dev/null &
    fi
    local tries
    for tries in $(seq 1 120); do
        engine_answers && return
        sleep 0.25
    done
    tail -5 "$engine_cache/dockerd.log" >&2 2>/dev/null || true
    engine_fail "dockerd doesn't answer after 30 s"
}

ensure_engine() {
    engine_answers && return
    engine_install
    engine_start
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    ensure_engine
    docker version --format 'client {{.Client.Version}}, daemon {{.Server.Version}}, API {{.Client.APIVersion}}'
fi
