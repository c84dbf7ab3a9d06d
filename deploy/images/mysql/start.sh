#!/bin/sh
# Runs mysqld with the arguments of `docker run`; any other command runs as it is.
set -e
case "${1:-}" in
    ''|-*) set -- mysqld "$@" ;;
esac
# A killed server leaves its lock behind, and the next one would take it for a running server's.
rm -f /run/mysqld/mysqld.sock /run/mysqld/mysqld.sock.lock /run/mysqld/mysqld.pid
exec "$@"
