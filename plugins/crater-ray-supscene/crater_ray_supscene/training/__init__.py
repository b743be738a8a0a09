"""Training: a job file becomes a plan of images, a cache of the frozen trunk, and a run on Ray Train."""
