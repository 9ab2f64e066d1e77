"""What goes round every request, as plain ASGI."""
