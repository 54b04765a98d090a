"""Poolings: thin layers over what `switchgrad.ops` says that they mean."""
