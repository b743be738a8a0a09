"""Trainable aggregators: torch modules that keep the seam's promises. They know Tokens and files, no Ray."""
