"""What the control plane and a worker share. Needs msgspec and nothing else (a foreign environment has no more)."""
