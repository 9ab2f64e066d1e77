"""Pictures and sound that clients send: what is taken and how it is opened, at the door and in workers alike.

Pillow and PyAV are imported where they are needed, so that a server without such models never loads them.
"""
