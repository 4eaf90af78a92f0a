"""Where photos come from: one file a source. A source lists and reads; it stores nothing and decodes nothing."""
