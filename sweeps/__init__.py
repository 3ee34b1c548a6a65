"""What to run, and where: specs, plans, launching, the command line."""
