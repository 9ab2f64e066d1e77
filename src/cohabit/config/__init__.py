"""What the owner writes down: YAML, every field typed, documented and defaulted."""
