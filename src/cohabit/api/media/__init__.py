"""Pictures and sound that requests bring or point to."""
