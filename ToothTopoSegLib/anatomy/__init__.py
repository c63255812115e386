"""What dentistry knows about teeth: FDI numbers, sizes, label schemes, SNOMED codes and colours.

Nothing here reads a scan or imports the rest of the engine.
"""
