"""ToothTopoSegLib: the engine behind every door of ToothTopoSeg (Slicer, Python console, batch, shell)."""

__version__ = "0.1.0"
