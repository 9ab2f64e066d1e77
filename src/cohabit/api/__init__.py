"""HTTP: parse and validate everything before anything is queued, then pass bytes through."""
