"""Who may use this server, and how much."""
