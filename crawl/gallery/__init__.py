"""Web galleries: the spider, its walk over pages, what a page says, and a trial of selectors."""
