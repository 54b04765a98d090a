"""Convolutions: by loops, as one matrix product, transposed, 1x1, depthwise, and without sharing."""
