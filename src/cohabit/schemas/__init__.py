"""OpenAI's request and response bodies, as pydantic models."""
