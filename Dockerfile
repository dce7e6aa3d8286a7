# The gateway beside a Mosquitto of yours; without the embedded bus.
# Its parts: `build` has pip and what builds our own package; the last stage has Python and the gateway alone.
ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS build
# Older ones leak memory at failed TLS handshakes, or have known holes.
RUN python -c 'import sys; v = sys.version_info[:3]; sys.exit(v < (3, 13, 18) and f"Python {v} is too old: docker build --pull")'
WORKDIR /build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
COPY requirements/image.lock requirements/
RUN python -m venv --without-pip /opt/gateway \
 && pip --python /opt/gateway/bin/python install --no-cache-dir --require-hashes -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
# What built it goes again, and so do the debugging symbols of compiled packages, a quarter of it all; the bytecode
# stays, for nothing can write it in a read-only container.
RUN pip --python /opt/gateway/bin/python install --no-cache-dir --no-deps --no-build-isolation . \
 && pip --python /opt/gateway/bin/python uninstall --yes hatchling editables pathspec pluggy tomlkit trove-classifiers \
 && find /opt/gateway -name '*.so*' -type f -exec strip --strip-debug {} +
COPY --chmod=0555 deploy/healthcheck.py /opt/gateway/bin/healthcheck

FROM python:${PYTHON}
COPY acl /etc/gateway/acl
# Nothing here installs anything any more: it is taken away. A clone may hide its files from other users.
RUN chmod -R a+rX /etc/gateway \
 && rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/gateway --shell /usr/sbin/nologin gateway \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/gateway
COPY --from=build /opt/gateway /opt/gateway
# By number: an orchestrator that forbids root can see that this is not root.
USER 10001:10001
WORKDIR /var/lib/gateway
# Everything that must outlive the container is in this volume: store, keys, certificates.
VOLUME /var/lib/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    ACL_PATH=/etc/gateway/acl \
    GATEWAY_DATA_DIR=/var/lib/gateway/data \
    TLS_CERT_PATH=/var/lib/gateway/certs/server.crt \
    TLS_KEY_PATH=/var/lib/gateway/certs/server.key
EXPOSE 8883 8443
# The first start makes keys and certificates, on a slow machine for some seconds.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["/opt/gateway/bin/python", "-I", "/opt/gateway/bin/healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
CMD ["run"]
