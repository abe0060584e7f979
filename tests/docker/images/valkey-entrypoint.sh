#!/bin/sh
# As the official image's: options alone are the server's, and root becomes `valkey`, who owns the data directory.
set -eu

case ${1:-} in
-* | *.conf) set -- valkey-server "$@" ;;
esac
if [ "${1:-}" = valkey-server ] && [ "$(id -u)" = 0 ]; then
    find . \! -user valkey -exec chown valkey '{}' +
    exec setpriv --reuid=valkey --regid=valkey --init-groups "$@"
fi
exec "$@"
