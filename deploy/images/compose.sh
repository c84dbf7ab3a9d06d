#!/bin/bash
# Makes `docker compose` available. Only the demo needs it, tests don't.
#
# Where the plugin is missing, its one binary is unpacked from the package of a
# newer Debian suite on the configured mirror; the system itself isn't upgraded.
set -euo pipefail

compose_fail() { echo "compose.sh: $*" >&2; exit 1; }
compose_ready() { docker compose version >/dev/null 2>&1; }

compose_install() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        compose_fail "docker compose is missing: install docker's compose plugin (v2), then run this again"
    local work site suite plugin target=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
    work=$(mktemp -d)
    trap 'rm -rf "$work"' RETURN
    chmod 755 "$work"
    mkdir -p "$work"/{lists/partial,cache/archives/partial,pkg} "$target"
    site=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' |
        awk '$2 !~ /security|updates|backports/ && $1 ~ /debian/ {print $1; exit}')
    [ -n "$site" ] || compose_fail "found no Debian mirror in apt's sources; run apt-get update first"
    for suite in trixie sid; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main" >"$work/s.list"
        local apt=(-q -o "Dir::Etc::sourcelist=$work/s.list" -o Dir::Etc::sourceparts=- -o Acquire::Languages=none
            -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
        apt-get "${apt[@]}" update >/dev/null 2>&1 || continue
        (cd "$work/pkg" && rm -rf ./* && apt-get "${apt[@]}" download docker-compose >/dev/null 2>&1 &&
            dpkg-deb -x docker-compose_*.deb .) || continue
        plugin=$(find "$work/pkg" -path '*/cli-plugins/docker-compose' -type f | head -1)
        # The binary links to libc: take it only if it runs here.
        if [ -n "$plugin" ] && "$plugin" version >/dev/null 2>&1; then
            install -m 0755 "$plugin" "$target/docker-compose"
            return
        fi
    done
    compose_fail "no packaged compose plugin runs here; install docker compose v2 by hand"
}

compose_ready || compose_install
docker compose version
