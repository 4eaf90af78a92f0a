"""The frozen encoders that a trainer looks through: text, VAE, CLIP vision, face embedding.

`python -m shards encode` runs them once over a dataset, the trainer runs them online: the same code, so that
cached equals online. Knows nothing of adapters, noise or losses.
"""
