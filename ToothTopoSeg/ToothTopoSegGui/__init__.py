"""The widgets of the Slicer module, one file a panel; Slicer and Qt are imported here and in ToothTopoSeg.py alone."""
