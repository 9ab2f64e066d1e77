"""Ways to a worker: the native link; later also HTTP to an upstream server."""
