#!/bin/sh
# redis-cluster-entry: makes one cluster of the nodes given as HOST:PORT, once, with as many replicas each as REPLICAS says.
# Run again, it finds the cluster and says so. ANNOUNCE_CLIENT_IPV4 is the address that clients which come by IPv4 are told.
set -eu

REPLICAS=${REPLICAS:-1}
WITHIN_S=${WITHIN_S:-60}

say() { echo "redis-cluster-entry: $*"; }

ask() { # ask HOST:PORT WORD…
    node=$1
    shift
    valkey-cli -h "${node%:*}" -p "${node##*:}" "$@" 2>/dev/null | tr -d '\r'
}

within() { # within WHAT COMMAND…: until it holds, or the time is over
    what=$1
    shift
    waited=0
    until "$@"; do
        [ "$waited" -lt "$WITHIN_S" ] || { say "Error: not within $WITHIN_S s: $what"; exit 1; }
        waited=$((waited + 1))
        sleep 1
    done
}

each() { # each CHECK NODE…
    check=$1
    shift
    for one in "$@"; do "$check" "$one" || return 1; done
}

answers() { [ "$(ask "$1" ping)" = PONG ]; }

usable() { ask "$1" cluster info | grep -q '^cluster_state:ok$'; }

knows_all() { ask "$1" cluster info | grep -q "^cluster_known_nodes:$number$"; }

alone() { ask "$1" cluster info | grep -q '^cluster_known_nodes:1$'; }

number=$#
within "every node answers" each answers "$@"

if each alone "$@"; then
    say "valkey-cli --cluster create $* --cluster-replicas $REPLICAS --cluster-yes"
    valkey-cli --cluster create "$@" --cluster-replicas "$REPLICAS" --cluster-yes
    say "created"
else
    say "the nodes know each other already: nothing to create"
fi

if [ -n "${ANNOUNCE_CLIENT_IPV4:-}" ]; then
    for node in "$@"; do
        ask "$node" config set cluster-announce-client-ipv4 "$ANNOUNCE_CLIENT_IPV4" >/dev/null
    done
fi

within "every node knows $number nodes. Try: make down clean up, which makes a new and empty cluster" each knows_all "$@"
within "every node calls the cluster ok. Try: make down clean up, which makes a new and empty cluster" each usable "$@"
ask "$1" cluster info | grep -E '^cluster_(state|slots_assigned|known_nodes):'
say "the cluster is usable"
