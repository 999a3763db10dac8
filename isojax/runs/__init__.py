"""The folder of a run: its files, their names and formats.

Everything that reads or writes these files does so through this package.
"""
