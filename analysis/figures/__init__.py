"""Figures: a pure table and a thin drawing, one file per figure."""
