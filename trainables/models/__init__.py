"""Models: contract, registry, one file per architecture family."""
