"""What runs in a worker process. Imports the protocol, one engine, and nothing of the control plane."""
