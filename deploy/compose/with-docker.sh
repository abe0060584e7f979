#!/bin/sh
# What `make` does WITH=docker: the cluster of docker-compose.yml (BRIDGE=1: docker-compose.bridge.yml), and the image's commands.
#
#   with-docker.sh up|down|logs|clean|backup|restore|list|address     settings from the environment, as `understudy` reads them
set -eu

verb=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
project=redis-cluster
image=${UNDERSTUDY_IMAGE:-redis-backup-tool:latest}
file=docker-compose.yml

fail() { # fail WHY TRY
    printf 'Error: %s\nTry: %s\n' "$1" "$2" >&2
    exit 2
}

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose -p "$project" -f "$root/$file" "$@"
    elif command -v docker-compose >/dev/null; then
        docker-compose -p "$project" -f "$root/$file" "$@"
    else
        fail "neither docker compose nor docker-compose is there" "install the Compose plugin, or: make $verb WITH=here"
    fi
}

host_address() { # of Docker's own bridge: what its network says, else the first of its subnet
    docker network inspect bridge --format '{{range .IPAM.Config}}{{.Gateway}} {{.Subnet}}{{"\n"}}{{end}}' 2>/dev/null |
        awk '{ sub(/^<no value>/, "") } NF == 2 && $1 ~ /^[0-9.]+$/ { print $1; exit }
             $NF ~ /^[0-9.]+\.0\/[0-9]+$/ { sub(/0\/.*/, "1", $NF); print $NF; exit }'
}

# The first of these ports that somebody listens on, and who, if the system tells: "7001 redis-server (pid 17)".
held() {
    if [ -x "$root/.venv/bin/python" ]; then
        "$root/.venv/bin/python" -P - "$@" <<'END'
import sys
from understudy.installed import as_typed
from understudy.lab.named import lab_on
from understudy.lab.ports import holder, taken
for port in map(int, sys.argv[1:]):
    if taken(port):
        lab = lab_on(port)
        print(port, f"the lab {lab!r}; {as_typed(f'understudy down --name {lab}')}" if lab else holder(port))
        break
END
        return
    fi
    for port in "$@"; do
        if [ -r /proc/net/tcp ]; then # a listener (0A) on this address, on all, or on all of IPv6
            cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$(printf %04X "$port")" '$4 == "0A" &&
                $2 ~ "^(0+|0100007F|0+FFFF00000100007F):" port "$" { found = 1 } END { exit !found }' || continue
            echo "$port" && return
        fi
        who=$(lsof -nP -iTCP:"$port" -sTCP:LISTEN -Fc 2>/dev/null | sed -n 's/^c//p' | head -n 1)
        [ -z "$who" ] || { echo "$port $who" && return; }
    done
}

refuse_held() { # before anything is started; ports of nodes that run are ours, and an engine elsewhere has its own
    case ${DOCKER_HOST:-} in tcp:* | ssh:*) return ;; esac
    ports=
    for node in 1 2 3 4 5 6; do
        case " $running " in *" redis-$node "*) continue ;; esac
        ports="$ports 700$node"
        [ "$file" = docker-compose.bridge.yml ] || ports="$ports 1700$node" # a node's bus
    done
    # shellcheck disable=SC2086 # words are meant
    found=$(held $ports)
    [ -n "$found" ] || return 0
    port=${found%% *}
    who=${found#"$port"}
    who=${who# }
    case $who in
    *"; "*) try=${who#*; } who=${who%%; *} ;;
    *) try="end it, and type make up again" ;;
    esac
    fail "port $port is taken by ${who:-another program}; nothing was started" "$try"
}

up() {
    taken=$(docker ps --all --filter name='^/redis-[1-6]$' --filter name='^/redis-cluster-entry$' \
        --format '{{.Label "com.docker.compose.project"}} {{.Names}}' | grep -v "^$project " || true)
    [ -z "$taken" ] || fail "containers of other people have the names: $taken" "docker rm -f NAME, if you need them no more"
    running=$(docker ps --filter status=running --filter name='^/redis-[1-6]$' --format '{{.Names}}' | tr '\n' ' ')
    refuse_held
    if ! compose up -d; then
        if [ -z "$running" ]; then # else they would be started again and again until somebody looks
            compose logs --no-color --tail 5 >&2 || true
            compose down --remove-orphans >/dev/null 2>&1 || true
        fi
        fail "compose could not start the cluster" "read what it said, above. Can it pull its image (VALKEY_IMAGE names another)?"
    fi
    if [ "$(docker wait redis-cluster-entry)" != 0 ]; then
        docker logs --tail 20 redis-cluster-entry >&2
        fail "no cluster was made" "make logs; make down clean up makes a new and empty one"
    fi
    docker logs --tail 4 redis-cluster-entry
    echo "The cluster is up in Docker on 127.0.0.1:7001 to 7006 (make down stops it, WITH=here takes no Docker)."
}

run() { # run the image's command on the sets in BACKUP_DIR
    docker image inspect "$image" >/dev/null 2>&1 || fail "there is no image $image" "make build-backup-tool, or: make … WITH=here"
    if [ -n "${UNDERSTUDY_CONFIG:-}" ] || [ -e understudy.toml ]; then # what it names, 127.0.0.1 and files, is not the container's
        fail "${UNDERSTUDY_CONFIG:-understudy.toml} is not taken into the container" "make … WITH=here, or docker run with it mounted (docs/containers.md)"
    fi
    if [ -n "${REDIS_ENTRA_ID:-}" ]; then fail "REDIS_ENTRA_ID is not taken into the container" "make … WITH=here"; fi
    (umask 077 && mkdir -p "$BACKUP_DIR")
    sets=$(cd "$BACKUP_DIR" && pwd)
    set -- --volume "$sets:/data/backups" "$image" "$@"
    if [ -d "$HOME/.aws" ]; then set -- --volume "$HOME/.aws:/root/.aws:ro" "$@"; fi
    if [ -n "${DOCKER_NETWORK:-}" ]; then
        set -- --network "$DOCKER_NETWORK" "$@"
    elif docker network inspect redis-cluster >/dev/null 2>&1; then # of docker-compose.bridge.yml
        set -- --network redis-cluster "$@"
    fi
    # files have the same path in the container
    for name in REDIS_URL_FILE REDIS_PASSWORD_FILE REDIS_SENTINEL_PASSWORD_FILE REDIS_TLS_CA REDIS_TLS_CERT REDIS_TLS_KEY \
        POSTGRES_URL_FILE POSTGRES_PASSWORD_FILE QDRANT_API_KEY_FILE BACKUP_PASSPHRASE_FILE BACKUP_IDENTITY \
        AWS_SHARED_CREDENTIALS_FILE AWS_CONFIG_FILE AWS_CA_BUNDLE AWS_WEB_IDENTITY_TOKEN_FILE; do
        path=$(printenv "$name") && [ -n "$path" ] || continue
        [ -e "$path" ] || fail "there is no file $path" "check $name"
        path=$(cd "$(dirname "$path")" && pwd)/$(basename "$path")
        export "$name=$path"
        set -- --env "$name" "$@"
        if [ "$path" != /dev/null ]; then set -- --volume "$path:$path:ro" "$@"; fi
    done
    if [ -t 0 ] && [ -t 1 ]; then set -- --interactive --tty "$@"; fi
    # names only: a value comes from our environment, and stands in no command line
    for name in ENV_PROFILE S3_URI REDIS_URL REDIS_NODES REDIS_MODE REDIS_USERNAME REDIS_PASSWORD REDIS_ACCESS_KEY \
        REDIS_SENTINEL_PASSWORD REDIS_SENTINEL_SERVICE REDIS_TLS REDIS_TLS_VERIFY USE_CLUSTER \
        BACKUP_MATCH BACKUP_CHUNK_KEYS BACKUP_MAX_RATE BACKUP_ENGINE BACKUP_PAUSE BACKUP_FORMAT BACKUP_SLICE_BYTES \
        BACKUP_NAME BACKUP_COMPONENTS BACKUP_OPTIONAL BACKUP_MAY_BE_EMPTY BACKUP_RECIPIENTS BACKUP_PASSPHRASE \
        POSTGRES_URL DATABASE_URL POSTGRES_PASSWORD POSTGRES_DATABASES POSTGRES_FORMAT POSTGRES_JOBS QDRANT_URL QDRANT_API_KEY QDRANT_COLLECTIONS \
        AWS_PROFILE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION AWS_DEFAULT_REGION AWS_ROLE_ARN \
        AWS_ENDPOINT_URL AWS_EC2_METADATA_DISABLED NO_COLOR; do
        if printenv "$name" >/dev/null; then set -- --env "$name" "$@"; fi
    done
    exec docker run --rm --env AWS_SDK_LOAD_CONFIG=1 "$@"
}

docker info >/dev/null 2>&1 || fail "no Docker engine answers" "start one, or: make … WITH=here"
bridged() { # asked for, on a network of its own already, or on Docker Desktop, whose host networking is another host's
    [ -n "${BRIDGE:-}" ] || docker network inspect redis-cluster >/dev/null 2>&1 ||
        [ "$(docker info --format '{{.OperatingSystem}}')" = "Docker Desktop" ]
}
if bridged; then file=docker-compose.bridge.yml; fi

HOST_ADDRESS=${HOST_ADDRESS:-$(host_address)}
if [ -n "$HOST_ADDRESS" ]; then export HOST_ADDRESS; else unset HOST_ADDRESS; fi

case $verb in
up) up ;;
down)
    compose down --remove-orphans
    ;;
logs)
    compose logs --no-color
    ;;
clean)
    compose down --volumes --remove-orphans
    echo "The cluster's containers and volumes are gone. Sets in BACKUP_DIR stay, and so does the image."
    ;;
backup | list) run "$verb" ;;
restore)
    if [ -n "${S3_URI:-}" ]; then run restore --from-s3 latest; else run restore latest; fi
    ;;
address) echo "${HOST_ADDRESS:-}" ;;
*) fail "there is no $verb" "up, down, logs, clean, backup, restore, list" ;;
esac
