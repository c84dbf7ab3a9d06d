#!/bin/bash
# Builds the local images: all of them, or those named (build.sh mysql kafka).
#
# Nothing comes from an image registry: roots are made by debootstrap, software
# comes from Debian and Maven packages. An image carries the hash of its recipe
# and of the image it stands on; one that is already built is skipped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=engine.sh
. "$here/engine.sh"
set -a
# shellcheck source=versions.env
. "$here/versions.env"
set +a

cache=${FRESHLINE_CACHE:-$HOME/.cache/freshline}
label=freshline.recipe
all=(base jre mysql mariadb etcd kafka canal debezium maxwell prometheus)

say() { echo "build.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

# need <command> <Debian package>
need() {
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "$1 is missing: install it (Debian package $2)"
    say "installing $2"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2" >/dev/null
}

recipe_of() { docker image inspect -f "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null || true; }

# hash_of <words...>: of the words and of every file under the folders among them.
hash_of() {
    local word
    for word in "$@"; do
        if [ -d "$word" ]; then
            (cd "$word" && find . -type f | LC_ALL=C sort | xargs sha256sum)
        else
            echo "$word"
        fi
    done | sha256sum | cut -c1-16
}

# root <suite> <image>: a minimal Debian, imported as an image.
root() {
    local suite=$1 image=$2 work="$cache/root-$1" hash
    hash=$(hash_of "root 2 $suite")
    [ "$(recipe_of "$image")" = "$hash" ] && return
    [ "$(id -u)" = 0 ] || fail "making a Debian root needs root"
    need debootstrap debootstrap
    say "$image: debootstrap $suite"
    rm -rf "$work"
    mkdir -p "$cache/apt-$suite"
    debootstrap --variant=minbase --cache-dir="$cache/apt-$suite" "$suite" "$work" >"$cache/debootstrap-$suite.log" 2>&1 ||
        fail "debootstrap failed, see $cache/debootstrap-$suite.log"
    # Never through $work/var/run: it is an absolute link to the host's /run.
    rm -rf "$work"/var/lib/apt/lists/* "$work"/var/cache/apt/archives/*.deb "$work"/var/cache/apt/*.bin \
        "$work"/usr/share/{doc,man,info,locale}/*
    printf 'path-exclude=/usr/share/%s/*\n' doc man info locale >"$work/etc/dpkg/dpkg.cfg.d/small"
    # A frozen mirror serves an index past its date; signatures are checked all the same.
    printf '%s;\n' 'Acquire::Languages "none"' 'Acquire::Check-Valid-Until "false"' >"$work/etc/apt/apt.conf.d/small"
    tar -C "$work" --numeric-owner --exclude='./proc/*' --exclude='./sys/*' -c . |
        docker import --change "LABEL $label=$hash" - "$image" >/dev/null
    rm -rf "$work"
}

# versions <name>: the lines of versions.env that an image depends on, so that another's new version does not rebuild it.
versions() {
    local of='KAFKA|CANAL'
    case $1 in
        debezium) of='KAFKA|DEBEZIUM[A-Z_]*' ;;
        maxwell) of='MAXWELL[A-Z_]*' ;;
    esac
    grep -E "^($of)_VERSION=" "$here/versions.env"
}

# image <name> <image> <parent build argument> <parent image> [extra folder to copy into the context]
image() {
    local name=$1 image=$2 arg=$3 parent=$4 extra=${5:-} hash context
    hash=$(hash_of "$(recipe_of "$parent")" "$here/$name" "$(versions "$name")")
    if [ "$(recipe_of "$image")" = "$hash" ]; then
        say "$image is up to date"
        return
    fi
    say "$image: building"
    context=$(mktemp -d)
    cp -r "$here/$name/." "$context/"
    if [ -n "$extra" ]; then "$extra" "$context"; fi
    # Packages are fetched while building: the host's network is the one known to reach the mirror.
    DOCKER_BUILDKIT=0 docker build -q --network host --build-arg "$arg=$parent" --label "$label=$hash" \
        -t "$image" "$context" >"$cache/build-$name.log" 2>&1 || {
        tail -20 "$cache/build-$name.log" >&2
        fail "$image: build failed, see $cache/build-$name.log"
    }
    rm -rf "$context"
}

# jars <context>: the recipe's pom.xml resolved into lib/.
jars() {
    need mvn maven
    mvn -q -B -f "$1/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/lib" \
        -Dkafka.version="$KAFKA_VERSION" -Dcanal.version="$CANAL_VERSION" \
        -Ddebezium.mysql.version="$DEBEZIUM_MYSQL_VERSION" -Ddebezium.mariadb.version="$DEBEZIUM_MARIADB_VERSION" \
        -Dmaxwell.version="$MAXWELL_VERSION" -Dmaxwell.kafka.version="$MAXWELL_KAFKA_VERSION" ||
        fail "Maven could not fetch the jars of $1/pom.xml"
}

# compiled <context>: the same, and src/ compiled into classes/.
compiled() {
    jars "$1"
    need javac openjdk-17-jdk-headless
    mkdir -p "$1/classes"
    javac -nowarn --release 17 -cp "$1/lib/*" -d "$1/classes" "$1"/src/*.java
}

# Connect's own jars, and each connector's in a folder of its own: Connect loads each apart, so their versions may differ.
debezium_jars() {
    local part
    for part in connect mysql mariadb; do jars "$1/$part"; done
    # What the worker brings itself is no part of a plugin.
    rm -f "$1"/{mysql,mariadb}/lib/{connect-api,connect-json,kafka-clients,slf4j-api}-*.jar
}

build() {
    case $1 in
        base) root bookworm freshline/root:bookworm && image base "$FRESHLINE_BASE_IMAGE" ROOT freshline/root:bookworm ;;
        jre) build base && image jre "$FRESHLINE_JRE_IMAGE" BASE "$FRESHLINE_BASE_IMAGE" ;;
        kafka) build jre && image kafka "$FRESHLINE_KAFKA_IMAGE" JRE "$FRESHLINE_JRE_IMAGE" jars ;;
        canal) build jre && image canal "$FRESHLINE_CANAL_IMAGE" JRE "$FRESHLINE_JRE_IMAGE" compiled ;;
        debezium) build jre && image debezium "$FRESHLINE_DEBEZIUM_IMAGE" JRE "$FRESHLINE_JRE_IMAGE" debezium_jars ;;
        maxwell) build jre && image maxwell "$FRESHLINE_MAXWELL_IMAGE" JRE "$FRESHLINE_JRE_IMAGE" compiled ;;
        mariadb) build base && image mariadb "$FRESHLINE_MARIADB_IMAGE" BASE "$FRESHLINE_BASE_IMAGE" ;;
        mysql) root sid "$FRESHLINE_SID_IMAGE" && image mysql "$FRESHLINE_MYSQL_IMAGE" SID "$FRESHLINE_SID_IMAGE" ;;
        etcd) root sid "$FRESHLINE_SID_IMAGE" && image etcd "$FRESHLINE_ETCD_IMAGE" SID "$FRESHLINE_SID_IMAGE" ;;
        prometheus) root sid "$FRESHLINE_SID_IMAGE" && image prometheus "$FRESHLINE_PROMETHEUS_IMAGE" SID "$FRESHLINE_SID_IMAGE" ;;
        *) fail "no image named $1; there are: ${all[*]}" ;;
    esac
}

mkdir -p "$cache"
ensure_engine
# Two builds at once would only undo each other's work.
exec 9>"$cache/build.lock"
flock 9
[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do build "$name"; done
