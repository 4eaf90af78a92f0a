"""The steps of a build: their order, the last of them, running them on Ray, and what is written when all are done."""
