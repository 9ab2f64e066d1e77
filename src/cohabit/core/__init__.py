"""Who holds memory, who runs, who leaves: decisions only. Pure: events in, commands out, time is an argument."""
