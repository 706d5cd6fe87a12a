"""What a server tells about itself: metrics, traces, logs, its interface, its state."""
