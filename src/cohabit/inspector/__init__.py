"""The process that opens pictures and sound of clients, so that what breaks C libraries breaks nothing else."""
