#!/bin/sh
# Document 5's stack by Docker Compose, from its first start to its last: sets are taken by the scheduler in the container,
# the data is destroyed, a set brings it back, a rehearsal proves it, production's set is restored into dev, the scheduler is
# killed and found out. Everything is gone at the end. Needs a Docker engine and Compose; ends with 0 where all of it held.
#
#   UNDERSTUDY_IMAGE=… POSTGRES_IMAGE=… VALKEY_IMAGE=… tests/docker/document-5.sh
#
# Qdrant is left out unless its image is here (WITH_QDRANT=1 has it pulled).
set -eu
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
project=document-5-$$
export COMPOSE_PROJECT_NAME="$project" COMPOSE_IGNORE_ORPHANS=1
export BACKUP_DIR="$work/backups" POSTGRES_PASSWORD_SECRET="$work/password" ENV_PROFILE=prd TZ=UTC
export SCHEDULE_DAILY='* * * * *' # so that one is due within a minute
export QDRANT_PORT="${QDRANT_PORT:-16333}" DEV_QDRANT_PORT="${DEV_QDRANT_PORT:-16334}"
export DEV_POSTGRES_PORT="${DEV_POSTGRES_PORT:-15432}" DEV_REDIS_PORT="${DEV_REDIS_PORT:-16379}"
mkdir -m 700 "$BACKUP_DIR"
(umask 077 && echo 'pl4nted-password' >"$POSTGRES_PASSWORD_SECRET")
# as a user's would be: the container becomes who owns BACKUP_DIR
[ "$(id -u)" != 0 ] || chown -R 4242:4242 "$BACKUP_DIR" "$POSTGRES_PASSWORD_SECRET"

scale=
if [ -z "${WITH_QDRANT:-}" ] && ! docker image inspect "${QDRANT_IMAGE:-qdrant/qdrant:v1.15.5}" >/dev/null 2>&1; then
    export BACKUP_COMPONENTS=postgres,redis
    scale='--scale qdrant=0'
fi

dev_file=docker-compose.dev.yml
if docker compose version >/dev/null 2>&1; then
    compose() { docker compose "$@"; }
else # 1.29 knows no `name:`; the project's name below stands for it
    compose() { docker-compose "$@"; }
    dev_file=$work/dev.yml
    sed '/^name:/d' docker-compose.dev.yml >"$dev_file"
fi
prod() { compose --project-directory . -f docker-compose.prod.yml "$@"; }
dev() { COMPOSE_PROJECT_NAME="$project-dev" compose --project-directory . -f "$dev_file" "$@"; }
understudy() { prod run --rm -T backup "$@"; }

ended() {
    code=$?
    [ "$code" = 0 ] || { echo "FAILED"; prod logs --tail 40 || true; }
    dev down -v >/dev/null 2>&1 || true
    prod down -v >/dev/null 2>&1 || true
    # what root wrote, whoever we are
    docker run --rm -v "$work:/w" --entrypoint sh "${UNDERSTUDY_IMAGE:-redis-backup-tool:latest}" -c 'rm -rf /w/*' || true
    rmdir "$work" 2>/dev/null || true
    exit "$code"
}
trap ended EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }
must() { [ "$2" = "$3" ] || { echo "$1: $2, not $3"; exit 1; }; }
until_true() { # SECONDS COMMAND…
    left=$1 && shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "not in time: $*"; exit 1; }
        sleep 1
    done
}
healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$($1 ps -q "$2")")" = healthy ]; }
rows() { $1 exec -T postgres psql -tA -U postgres -d scholaria -c "SELECT COUNT(*) FROM $2;" | tr -d ' \r'; }
keys() { $1 exec -T redis redis-cli DBSIZE | tr -cd 0-9; }
sets() { find "$BACKUP_DIR" -maxdepth 2 -path '*/stack-backup-prd-*/metadata.json' | wc -l | tr -d ' '; }

say 'The stack starts'
# shellcheck disable=SC2086 - nothing, or two words
prod up -d $scale postgres redis backup $([ -n "$scale" ] || echo qdrant)
until_true 90 healthy prod postgres
until_true 60 healthy prod redis

say 'It has data'
prod exec -T postgres psql -q -U postgres -d scholaria \
    -c "CREATE TABLE topics AS SELECT i AS id, 'topic ' || i AS title FROM generate_series(1, 25) i" \
    -c "CREATE TABLE context_items AS SELECT i AS id, 'item ' || i AS body FROM generate_series(1, 150) i"
prod exec -T redis redis-cli EVAL \
    'for i = 1, 320 do redis.call("SET", "embedding_cache:" .. i, "value " .. i) end return 320' 0 >/dev/null
must topics "$(rows prod topics)" 25
must keys "$(keys prod)" 320
must 'keys of the cache' "$(prod exec -T redis redis-cli --scan --pattern 'embedding_cache:*' | wc -l | tr -d ' ')" 320

say 'The scheduler in the container takes a set by itself'
before=$(sets)
until_true 150 sh -c "[ \$(find '$BACKUP_DIR' -maxdepth 2 -path '*/stack-backup-prd-*/metadata.json' | wc -l) -gt $before ]"
until_true 90 sh -c "docker exec '$(prod ps -q backup)' grep -q '\"action\":\"backup\",\"phase\":\"ended\"' /data/backups/audit.jsonl"

say 'It ends cleanly'
scheduler=$(prod ps -q backup)
prod stop backup
must 'exit code of the scheduler' "$(docker inspect -f '{{.State.ExitCode}}' "$scheduler")" 0
case $(prod logs --no-color backup) in *'Ended. No run was at work.'* | *'run failed.'*) ;; *) echo 'no end in its log'; exit 1 ;; esac

say 'A run by hand, and the sums as the document checks them'
understudy schedule run daily
set=$(understudy list --json | sed -n 's/.*"id": *"\(stack-backup-prd-[^"]*\)".*/\1/p' | head -n 1)
(cd "$BACKUP_DIR/$set" && sha256sum --quiet -c SHA256SUMS && cat metadata.json >/dev/null)

say 'The data is destroyed, and comes back'
prod exec -T postgres psql -q -U postgres -d scholaria -c 'DROP TABLE topics' -c 'DELETE FROM context_items'
prod exec -T redis redis-cli FLUSHALL >/dev/null
understudy restore --dry-run latest
understudy restore --force latest
must topics "$(rows prod topics)" 25
must context_items "$(rows prod context_items)" 150
must keys "$(keys prod)" 320
understudy verify -i latest --full

say 'A rehearsal, in the container'
understudy rehearse latest

say 'The scheduler runs again; health-check finds nothing bad, and then that it was killed'
SCHEDULE_DAILY='0 2 * * *' prod up -d --no-deps backup
until_true 60 sh -c "docker exec '$(prod ps -q backup)' understudy-entrypoint schedule status --json | grep -q serve"
prod exec -T backup understudy-entrypoint health-check
docker kill "$(prod ps -q backup)" >/dev/null
code=0
SCHEDULE_DAILY='0 2 * * *' understudy health-check >"$work/health" || code=$?
must 'exit code of health-check' "$code" 15
grep -q 'schedule serve.* died' "$work/health"

say 'Production'"'"'s set is restored into dev; production does not notice'
# shellcheck disable=SC2086
dev up -d $scale postgres redis $([ -n "$scale" ] || echo qdrant)
until_true 90 healthy dev postgres
dev run --rm -T backup restore --from-s3 latest --force
must 'topics in dev' "$(rows dev topics)" 25
must 'keys in dev' "$(keys dev)" 320
dev exec -T postgres psql -q -U postgres -d scholaria -c 'DROP TABLE topics'
dev down -v
must topics "$(rows prod topics)" 25

say 'Whatever was written belongs to whoever owns BACKUP_DIR, and no secret stands in what anybody may read'
must 'files of others' "$(find "$BACKUP_DIR" ! -user "$(stat -c %u "$BACKUP_DIR")" | wc -l | tr -d ' ')" 0
for container in $(prod ps -q); do
    ! docker inspect "$container" | grep -q pl4nted
done
! prod logs --no-color | grep -q pl4nted

say 'All of it held.'
