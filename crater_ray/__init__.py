"""crater-ray: instance-level retrieval of craters and photographs on Ray."""
