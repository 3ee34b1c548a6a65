"""Tasks: contract, registry, one file per task."""
