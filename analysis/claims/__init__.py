"""The papers' claims: contract, registry, one file per family, and how they are judged."""
