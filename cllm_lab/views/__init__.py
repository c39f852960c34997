"""Figures, tables and the live bench: the only room that draws, and the only one that needs matplotlib and pandas.

Each file is loaded when it is asked for: the bench opens without matplotlib.
"""
