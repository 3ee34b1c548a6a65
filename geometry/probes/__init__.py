"""Probes: what is measured at a training step."""
