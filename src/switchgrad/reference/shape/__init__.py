"""Layers that only move numbers: flatten, add, concatenate."""
