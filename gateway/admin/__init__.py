"""What is served over HTTPS on GATEWAY_HTTP_BIND."""
