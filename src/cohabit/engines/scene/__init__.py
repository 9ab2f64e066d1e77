"""The engine ``scene``: what a picture shows, by a classifier and by reading its text."""
