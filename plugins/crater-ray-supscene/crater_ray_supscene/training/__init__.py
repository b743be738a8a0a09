"""Training: a job file becomes a plan of images, a cache of frozen features, and a run on Ray Train."""
