"""Finding and fetching photos of named people: the first package of the flow; it imports no other."""
