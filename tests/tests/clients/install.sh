#!/usr/bin/env bash
# Installs the Redis clients of versions.env for `./test.sh clients`, outside the repository, in $FRESHLINE_CACHE/clients.
# As root on Debian it installs missing system packages; elsewhere it says what is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/versions.env"
to=${FRESHLINE_CACHE:-$HOME/.cache/freshline}/clients
mkdir -p "$to"

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need redis-cli redis-tools
need redis-server redis-server
need python3 python3-venv
need npm npm
need node nodejs
need mvn maven
need javac default-jdk-headless
need go golang-go
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get update -qq
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "missing: ${missing[*]}; install them, then run this again" >&2
        exit 1
    fi
fi

[ -x "$to/venv/bin/python" ] || python3 -m venv "$to/venv"
"$to/venv/bin/pip" install -q --disable-pip-version-check "redis==$REDIS_PY"

mkdir -p "$to/node"
[ -d "$to/node/node_modules/ioredis" ] && grep -q "\"version\": \"$IOREDIS\"" "$to/node/node_modules/ioredis/package.json" ||
    npm install --silent --no-audit --no-fund --prefix "$to/node" "ioredis@$IOREDIS"

mkdir -p "$to/go" && cp "$here"/go/* "$to/go/"
(cd "$to/go" && go build -mod=mod -o client .)

mkdir -p "$to/java" && cp -r "$here"/java/. "$to/java/"
(cd "$to/java" && mvn -q -B package)

CARGO_TARGET_DIR=$to/rust cargo build --quiet --manifest-path "$here/rust/Cargo.toml"
