#!/bin/sh
# Starts one server of docker-compose.ha.yml:  node.sh PORT [PORT-OF-THE-PRIMARY]
# The configuration is written once: the sentinels have the server rewrite it at every failover, and what they wrote must
# be there when the container is started again.
set -eu
mkdir -p /lab
cd /lab
if [ ! -e valkey.conf ]; then
  {
    echo "port $1"
    echo "bind 0.0.0.0"
    echo "protected-mode no"
    echo 'save ""'
    echo "replica-announce-ip 127.0.0.1"
    echo "replica-announce-port $1"
    echo "repl-diskless-sync-delay 0"
    if [ -n "${2:-}" ]; then echo "replicaof 127.0.0.1 $2"; fi
  } > valkey.conf.new
  mv valkey.conf.new valkey.conf
fi
exec valkey-server /lab/valkey.conf
