"""What the gateway says about itself: logs, audit events, metrics, health."""
