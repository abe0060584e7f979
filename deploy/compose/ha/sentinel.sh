#!/bin/sh
# Starts one sentinel of docker-compose.ha.yml:  sentinel.sh PORT
# A sentinel keeps what it knows in its configuration, so that is written here and not mounted: once, for the sentinel
# rewrites it, and must find it again when the container is started again.
set -eu
mkdir -p /lab
cd /lab
if [ ! -e sentinel.conf ]; then
  {
    echo "port $1"
    echo "bind 0.0.0.0"
    echo "protected-mode no"
    echo "dir /lab"
    echo "sentinel announce-ip 127.0.0.1"
    echo "sentinel announce-port $1"
    echo "sentinel monitor mymaster 127.0.0.1 6379 2"
    echo "sentinel down-after-milliseconds mymaster ${DOWN_AFTER_MS:-1000}"
    echo "sentinel failover-timeout mymaster 10000"
    echo "sentinel parallel-syncs mymaster 1"
  } > sentinel.conf.new
  mv sentinel.conf.new sentinel.conf
fi
exec valkey-server /lab/sentinel.conf --sentinel
