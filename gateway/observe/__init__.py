"""What the gateway tells about itself: logs, audit events, metrics, health."""
