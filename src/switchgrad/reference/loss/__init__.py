"""Losses: layers whose output is one number, J."""
