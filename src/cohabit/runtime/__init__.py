"""The shell round the core: one task owns the controller, commands run as effects, answers flow past it."""
