"""cohabit serves many AI models of different kinds from one GPU."""
