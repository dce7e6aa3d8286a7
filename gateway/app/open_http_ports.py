"""Opens the ports that speak HTTP: health and metrics, and the API."""

from __future__ import annotations

from gateway.app.running_parts import RunningParts
from gateway.app.startup_preparation import address_taken
from gateway.auth.tokens import Tokens
from gateway.config import Settings
from gateway.http.health import serve
from gateway.http.server import WebServer
from gateway.http.token_api import Api, serve_api
from gateway.net.data_plane_parts import DataPlane
from gateway.net.tls_contexts import server_context
from gateway.observe.audit_dispatch import Audit
from gateway.observe.health_check_scheduler import Health
from gateway.observe.metrics import Metrics, collector_registry
from gateway.services.token_issuer import TokenIssuer


async def open_health(settings: Settings, health: Health, metrics: Metrics, parts: RunningParts) -> WebServer:
    """Listen at GATEWAY_HEALTH_BIND. Raises StartError if that is not possible."""
    registry = collector_registry(metrics) if settings.metrics_enabled else None
    try:
        server = await serve(health, registry, settings.gateway_health_bind, start=parts.tasks.start)
    except OSError as error:
        raise address_taken("GATEWAY_HEALTH_BIND", error) from error
    parts.closing.push_async_callback(server.close)
    return server


async def open_api(
    settings: Settings,
    plane: DataPlane,
    *,
    tokens: Tokens,
    token_issuer: TokenIssuer,
    audit: Audit,
    parts: RunningParts,
) -> WebServer:
    """Listen at GATEWAY_HTTP_BIND. Raises StartError if that is not possible."""
    api = Api(
        login=plane.login,
        token_issuer=token_issuer,
        jwks=lambda: tokens.keys.jwks(),  # noqa: PLW0108 - other keys after a rotation
        audit=audit,
        now=plane.context.now,
    )
    # A context of its own: a client certificate logs nobody in here.
    tls = (
        server_context(settings.tls_cert_path, settings.tls_key_path, None) if settings.tls_enabled else None
    )
    try:
        server = await serve_api(
            api,
            settings.gateway_http_bind,
            start=parts.tasks.start,
            tls=tls,
            proxies=settings.gateway_proxy_from,
        )
    except OSError as error:
        raise address_taken("GATEWAY_HTTP_BIND", error) from error
    parts.closing.push_async_callback(server.close)
    return server
