"""Scans and label maps as values: reading, writing, the canonical grid and resampling.

Files go in through ``read`` (NIfTI, NRRD, MetaImage, GIPL, DICOM folder, file or zip) and come out through ``write``;
between them everything is a :class:`~ToothTopoSegLib.imaging.volume.Volume` with geometry as ITK defines it.
"""
