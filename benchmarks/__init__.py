"""Speed, memory and quality, measured: `make bench` runs every one; each also runs alone."""
