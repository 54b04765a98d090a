"""Normalisations: over the batch, across channels, over surroundings, to unit length."""
