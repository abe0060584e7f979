#!/bin/sh
# A node of docker-compose.bridge.yml. Clients that come by IPv4 are told 127.0.0.1, where its port is published; but only once
# there is a cluster: `valkey-cli --cluster create` is such a client too, inside the network. create.sh says it then.
set -eu

if [ "$(grep -c connected nodes.conf 2>/dev/null || true)" -gt 1 ] 2>/dev/null; then
    set -- "$@" --cluster-announce-client-ipv4 127.0.0.1
fi
if command -v docker-entrypoint.sh >/dev/null; then # the image's own way to leave root
    exec docker-entrypoint.sh valkey-server /etc/valkey/node.conf --bind '*' '-::*' "$@"
fi
exec valkey-server /etc/valkey/node.conf --bind '*' '-::*' "$@"
