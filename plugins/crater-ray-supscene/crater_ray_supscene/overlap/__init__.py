"""Which images of a scene see the same ground, and how much of it: files, footprints, graphs."""
