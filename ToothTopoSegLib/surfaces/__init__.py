"""Surfaces: closed triangle meshes of teeth with the topology of their labels, and the files they are written to."""
