#!/bin/sh
# The image's entry point: says where the cluster is if nobody did, leaves root, and becomes `understudy`.
# What it decides, and how to decide otherwise: docs/containers.md.
set -eu

data=${BACKUP_DIR:-/data/backups}

# --- which cluster? Document 1's six nodes, as a container sees them.

host_network() { # our network is the host's, where Docker's own bridge is, or a card that is no end of a pair
    [ -e "${ENTRYPOINT_SYS:-/sys}/class/net/docker0" ] && return
    card=$(awk '$2 == "00000000" { print $1; exit }' "${ENTRYPOINT_PROC:-/proc}/net/route" 2>/dev/null)
    [ -n "$card" ] || return 0 # no network but our own loopback
    [ "$(cat "${ENTRYPOINT_SYS:-/sys}/class/net/$card/ifindex")" = "$(cat "${ENTRYPOINT_SYS:-/sys}/class/net/$card/iflink")" ]
}

gateway() { # little-endian hexadecimal
    word=$(awk '$2 == "00000000" { print $3; exit }' "${ENTRYPOINT_PROC:-/proc}/net/route")
    rest=${word%??}
    printf '%d.%d.%d.%d' "0x${word#"$rest"}" "0x$(echo "$rest" | cut -c5-6)" "0x$(echo "$rest" | cut -c3-4)" \
        "0x$(echo "$rest" | cut -c1-2)"
}

six() { echo "$1:7001,$1:7002,$1:7003,$1:7004,$1:7005,$1:7006"; }

in_the_network() { # docker-compose.bridge.yml tells a client that comes by IPv6 addresses that a container reaches
    address=$(timeout 2 getent ahostsv6 redis-1 2>/dev/null | awk '$1 !~ /^::ffff:/ { print $1; exit }')
    [ -n "$address" ]
}

default_nodes() {
    if host_network; then
        six 127.0.0.1
    elif in_the_network; then
        echo "[$address]:7001"
    elif timeout 2 getent hosts host.docker.internal >/dev/null 2>&1; then
        six host.docker.internal
    else # from another network than Docker's own the nodes are where they always are
        found=$(gateway)
        [ "$found" = 172.17.0.1 ] && six "$found" || echo "$(six "$found"),$(six 172.17.0.1)"
    fi
}

in_a_file() { # a file of settings is named: it may say where the server is, and the environment would win over it
    for word in "$@"; do case $word in --env-file | --env-file=*) return 0 ;; esac; done
    return 1
}

named() { # somebody said where the server is; PROFILE is the probe's way of saying it
    [ -n "${REDIS_NODES:-}${REDIS_URL:-}${REDIS_URL_FILE:-}${REDIS_SENTINELS:-}${UNDERSTUDY_CONFIG:-}" ] ||
        [ -e understudy.toml ] || in_a_file "$@" || {
        case ${PROFILE:-} in [Dd][Ee][Vv][Ee] | [Ss][Tt][Aa][Gg] | [Pp][Rr][Oo][Dd]) true ;; *) false ;; esac
    }
}

if [ "${ENV_PROFILE:-local}" = local ] && ! named "$@"; then
    case ${1:-} in
    backup | restore | verify | health-check | rehearse | schedule | probe | waitingroom | fault)
        REDIS_NODES=$(default_nodes)
        export REDIS_NODES
        ;;
    esac
fi

# --- who? Root only while nobody else owns what is written or read.

owner() { # of the first argument that is there by its whole path, else of the directory of sets
    for word in "$@"; do
        case $word in
        /*) [ -e "$word" ] && { stat -c %u:%g "$word"; return; } ;;
        --*=/*) [ -e "${word#*=}" ] && { stat -c %u:%g "${word#*=}"; return; } ;;
        esac
    done
    stat -c %u:%g "$data" 2>/dev/null || echo 0:0
}

as() { setpriv --reuid "${who%:*}" --regid "${who#*:}" --clear-groups --no-new-privs --inh-caps=-all -- "$@"; }

home=${HOME:-/}
drop=
if [ "$(id -u)" = 0 ]; then
    who=$(owner "$@")
    if [ "${who%:*}" != 0 ] && as true 2>/dev/null; then
        drop=yes
        if [ -d /root/.aws ] && ! as sh -c 'cd /root/.aws && for f in *; do [ ! -f "$f" ] || [ -r "$f" ] || exit 1; done' 2>/dev/null
        then # credentials that only root may read: a copy in memory, for whom we become
            home=$(mktemp -d /dev/shm/understudy.XXXXXX) # a new one: with --ipc=host others write there too
            (umask 077 && cp -RL /root/.aws "$home/" && chown -R "$who" "$home")
        fi
    fi
elif [ -d /root/.aws ] && [ -r /root/.aws ]; then
    home=/root
fi
[ -d "$home" ] && [ "$home" != / ] || home=/home/understudy
HOME=$home
export HOME UNDERSTUDY_HOME="${UNDERSTUDY_HOME:-${TMPDIR:-/tmp}/understudy}"

if [ -n "$drop" ]; then
    # initdb, with which a rehearsal makes its PostgreSQL, wants to know its user by name
    passwd=${ENTRYPOINT_ETC:-/etc}/passwd
    if [ -w "$passwd" ] && ! cut -d: -f3 "$passwd" | grep -qx "${who%:*}"; then
        echo "owner:x:${who%:*}:${who#*:}::$HOME:/usr/sbin/nologin" >>"$passwd" || true # a read-only root has none to add
    fi
    exec setpriv --reuid "${who%:*}" --regid "${who#*:}" --clear-groups --no-new-privs --inh-caps=-all -- understudy "$@"
fi
exec understudy "$@"
