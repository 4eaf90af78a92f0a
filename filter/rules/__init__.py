"""Rules that decide which photos of a name show that person: one file a rule, compared in docs/verification.md.

A rule is a function from a `Group` (all counting faces of one name) and `Limits` to a `Decision`. It
knows embeddings and numbers, no names, files, photos or models.
"""
