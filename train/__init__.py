"""Training identity adapters on shards: `Sample` in, adapter weights out.

Reads finished shards; knows nothing of how they are built, nor of Ray or Scrapy.
"""
