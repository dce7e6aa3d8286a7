# The gateway beside a Mosquitto of yours; without the embedded bus.
FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements/image.lock requirements/
RUN python -m venv /opt/gateway && /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN /opt/gateway/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
COPY --from=build /opt/gateway /opt/gateway
COPY acl /etc/gateway/acl
RUN useradd --system --uid 10001 gateway && install -d -o gateway -m 0700 /var/lib/gateway
USER gateway
WORKDIR /var/lib/gateway
# Everything that must outlive the container is in this volume: store, keys, certificates.
VOLUME /var/lib/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    ACL_PATH=/etc/gateway/acl \
    GATEWAY_DATA_DIR=/var/lib/gateway/data \
    TLS_CERT_PATH=/var/lib/gateway/certs/server.crt \
    TLS_KEY_PATH=/var/lib/gateway/certs/server.key
EXPOSE 8883 8443
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
ENTRYPOINT ["gateway"]
CMD ["run"]
