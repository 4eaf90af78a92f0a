"""Describing each kept crop in three parts (general, background, body): `Portrait` in, `Captioned` out."""
