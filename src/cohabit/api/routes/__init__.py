"""The paths, one module a family."""
