"""Views as cameras take them: cast shadows, laws of reflection, albedo, oblique sight, a sensor's faults.

`options` says what may happen and `drawn` what happens to one view. `radiance` lights the ground, `oblique`
looks at it from the side, `sensor` makes greys of it, and `photograph` does all of that to a pose.
"""
