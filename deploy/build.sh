#!/usr/bin/env bash
# Builds Freshline's binaries and packs them into the image freshline/freshline:dev (or $FRESHLINE_IMAGE).
#
#   deploy/build.sh [--profile dev|release|dist]     dist (thin LTO) is what a release ships; the default is release
#
# Needs Rust and a C compiler that make binaries for the base image's C library (Debian 12 or newer: glibc 2.36). FRESHLINE_BIN_DIR names a
# folder that has the binaries: nothing is built then.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=release
[ "${1:-}" = --profile ] && profile=${2:?--profile wants a name}
image=${FRESHLINE_IMAGE:-freshline/freshline:dev}
base=${FRESHLINE_BASE_IMAGE:-freshline/base:bookworm}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${FRESHLINE_CACHE:-$HOME/.cache/freshline}/target}

folder=${FRESHLINE_BIN_DIR:-$CARGO_TARGET_DIR/$([ "$profile" = dev ] && echo debug || echo "$profile")}
if [ -z "${FRESHLINE_BIN_DIR:-}" ]; then
    cargo build --locked --profile "$profile" -p freshline-cli -p freshline-cache-node -p freshline-sync-service --bins
fi
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$folder"/{freshline,cache-node,sync-service} "$context"
docker build -q -f deploy/Dockerfile --build-arg "BASE=$base" -t "$image" "$context"
