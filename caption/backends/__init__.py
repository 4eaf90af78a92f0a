"""Models that talk about photos, one family a file; `caption/captioner.py` chooses and opens. Knows none of them."""
