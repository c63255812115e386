"""Synthetic dental CBCT with exact labels: teeth, arches, jaws and the scanner that looks at them."""
