"""What `benchmark.py` measures, a file each; it is started from a clone, with the package installed."""
