"""Figures and HTML reports of runs, drawn from what `isojax.runs` reads.

The modules import Matplotlib, which takes a third of a second. Import them inside the
functions that use them.
"""
