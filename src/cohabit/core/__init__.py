"""The scheduler: which model is loaded, runs or is evicted. Pure: events in, commands out, time is an argument."""
