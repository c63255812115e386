"""Measurements of teeth in mm and degrees: size, long axis, inclination, cervix, distances; as a table."""
