"""Whom to look for, and who may be listed."""
