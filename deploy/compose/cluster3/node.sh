#!/bin/sh
# Starts one server of docker-compose.cluster.yml:  node.sh PORT
# The configuration is written once, into the container: `docker start` finds it again, and the cluster's nodes.conf beside it.
set -eu
mkdir -p /lab
cd /lab
if [ ! -e valkey.conf ]; then
  {
    echo "port $1"
    echo "bind 0.0.0.0"
    echo "protected-mode no"
    echo 'save ""'
    echo "cluster-enabled yes"
    echo "cluster-config-file nodes.conf"
    echo "cluster-node-timeout ${NODE_TIMEOUT_MS:-2000}"
    echo "cluster-announce-ip 127.0.0.1"
    echo "cluster-announce-port $1"
    echo "cluster-announce-bus-port $(($1 + 10000))"
    echo "repl-diskless-sync-delay 0"
  } > valkey.conf.new
  mv valkey.conf.new valkey.conf
fi
exec valkey-server /lab/valkey.conf
