"""The web server's side: connections and TLS."""
