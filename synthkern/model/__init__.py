"""A world as users hold it: what fires, how strongly, along which directions."""
