"""What `protos/generate.py` writes, and the module that loads it."""
