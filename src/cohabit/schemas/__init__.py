"""OpenAI's request and response bodies, as msgspec Structs."""
