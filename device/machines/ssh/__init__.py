"""Boards reached through the user's own OpenSSH: its configuration, keys and known hosts."""
