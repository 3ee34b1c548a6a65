"""Learning-rate schedules: contract, registry, fixed ones and warm-ups."""
