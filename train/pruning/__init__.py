"""Removing channels for good while a network trains."""
