"""The production core in virtual time: what a config would make of a trace, hours in seconds."""
