"""Subscribers of what the runtime publishes: logs, metrics. Nothing here is asked for a decision."""
