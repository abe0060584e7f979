#!/bin/sh
# Makes one cluster of servers that answer:  init.sh PORT…  the first half become primaries, the second their replicas.
# What is done already is not done again, so that it can be repeated, also after it was interrupted.
set -eu

ask() { port=$1; shift; valkey-cli -e -p "$port" "$@"; }
until_it_holds() {  # WHAT COMMAND…: at most 60 seconds
  what=$1; shift; tries=0
  until "$@"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ]; then echo "not in time: $what"; exit 1; fi
    sleep 0.2
  done
}
whole() { for port in $ports; do ask "$port" cluster info | grep -q '^cluster_state:ok' || return 1; done; }
knows() { ask "$1" cluster nodes | grep -v handshake | grep -q "^$2 "; }
counts_replicas() { [ "$(ask "$1" cluster nodes | grep -c slave)" -eq "$half" ]; }

ports=$*
half=$(($# / 2))
if whole; then echo "It is one cluster already."; exit 0; fi

# Slots: an equal share for each primary. A primary that has slots keeps them.
at=0
number=0
for port in $ports; do
  number=$((number + 1))
  if [ "$number" -gt "$half" ]; then break; fi
  last=$((16384 * number / half - 1))
  if ask "$port" cluster info | grep -q '^cluster_slots_assigned:0'; then
    ask "$port" cluster set-config-epoch "$number" > /dev/null || true  # refused once it knows others
    ask "$port" cluster addslotsrange "$at" "$last" > /dev/null
    echo "$port serves slots $at to $last"
  fi
  at=$((last + 1))
done

# Everyone is introduced to everyone.
for port in $ports; do
  for other in $ports; do
    if [ "$other" -gt "$port" ]; then ask "$port" cluster meet 127.0.0.1 "$other" > /dev/null; fi
  done
done

# Each of the second half follows one of the first.
number=0
for port in $ports; do
  number=$((number + 1))
  if [ "$number" -le "$half" ]; then continue; fi
  if ask "$port" cluster nodes | grep myself | grep -q slave; then continue; fi
  primary=$(echo "$ports" | cut -d ' ' -f $((number - half)))
  id=$(ask "$primary" cluster myid)
  until_it_holds "$port knows $primary" knows "$port" "$id"
  ask "$port" cluster replicate "$id" > /dev/null
  echo "$port follows $primary"
done

until_it_holds "the cluster is whole" whole
for port in $ports; do until_it_holds "$port sees $half replicas" counts_replicas "$port"; done
echo "It is one cluster: $half primaries, $half replicas."
