"""Data sets: contract, registry, one file per data set."""
