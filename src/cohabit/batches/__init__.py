"""Durable batches: files of requests that are answered while the device has nothing better to do."""
