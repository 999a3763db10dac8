"""Sweeps: many runs, one after another, and tables of their results."""
