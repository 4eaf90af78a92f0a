"""`make demo`: a real dataset from the photos that two installed packages carry. Needs no network."""
