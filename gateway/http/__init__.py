"""HTTP: the server on our own sockets, the API on GATEWAY_HTTP_BIND, and health on GATEWAY_HEALTH_BIND."""
