"""Sweeps: many runs, on one machine or several, and tables of their results."""
