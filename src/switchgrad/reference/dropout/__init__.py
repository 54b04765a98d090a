"""Dropout of units, of maps, and of connections; the masks are arguments."""
