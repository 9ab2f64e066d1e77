"""The engine ``llamacpp``: GGUF models in llama.cpp's server, and what makes of it one that strangers may ask."""
