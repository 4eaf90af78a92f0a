"""Cached features: their format, writing them, and the frozen encoders over a whole dataset."""
