"""Deciding which photos show the named person well enough, and cutting them: `Photo` in, `Portrait` out."""
