"""Worker processes as the control plane sees them: spawned, watched, ended, reaped."""
