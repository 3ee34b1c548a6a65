"""The training of one run: its two passes, its files, its tracking."""
