#!/usr/bin/env bash
# Installs the Redis clients of versions.env for `./test.sh clients`, outside the repository, in $FRESHLINE_CACHE/clients.
# As root on Debian it installs missing system packages; elsewhere it says what is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/versions.env"
to=${FRESHLINE_CACHE:-$HOME/.cache/freshline}/clients
mkdir -p "$to"
rm -f "$to/complete"

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
need cc gcc
need php php-cli
have() { [ -e "$1" ] || missing+=("$2"); } # of what is no command
have /usr/share/php/Predis/Autoloader.php php-nrk-predis
have /usr/include/hiredis/hiredis.h libhiredis-dev
php -m 2>/dev/null | grep -qx redis || missing+=(php-redis)
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
"$to/venv/bin/pip" install -q --disable-pip-version-check "redis==$REDIS_PY" "coredis==$COREDIS"

mkdir -p "$to/node"
wanted="ioredis@$IOREDIS redis4@npm:redis@$NODE_REDIS_4 redis5@npm:redis@$NODE_REDIS_5 redis6@npm:redis@$NODE_REDIS_6"
if [ "$(cat "$to/node/installed" 2>/dev/null)" != "$wanted" ]; then
    # shellcheck disable=SC2086 # several words
    npm install --silent --no-audit --no-fund --prefix "$to/node" $wanted
    echo "$wanted" >"$to/node/installed"
fi

# redis_exporter is unpacked, not installed, so that no service is started on anyone's machine.
if [ ! -x "$to/exporter/usr/bin/prometheus-redis-exporter" ]; then
    mkdir -p "$to/exporter" && (
        cd "$to/exporter"
        apt-get download -qq prometheus-redis-exporter 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus-redis-exporter; }
        dpkg-deb -x prometheus-redis-exporter_*.deb .
    )
fi

cc -O1 -o "$to/hiredis" "$here/c/hiredis.c" -lhiredis

rm -rf "$to/go" && mkdir -p "$to/go" && cp "$here"/go/* "$to/go/"
(cd "$to/go" && go build -mod=mod -o client .)

rm -rf "$to/java/src" && mkdir -p "$to/java" && cp -r "$here"/java/. "$to/java/"
(cd "$to/java" && mvn -q -B package)

CARGO_TARGET_DIR=$to/rust cargo build --quiet --manifest-path "$here/rust/Cargo.toml"
touch "$to/complete"
