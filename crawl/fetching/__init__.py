"""Fetching: one host's addresses in a child process behind one gate, resumable."""
