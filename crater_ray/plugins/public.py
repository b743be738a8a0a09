"""What a plugin may import of crater-ray, beside the names of `crater_ray` itself.

tests/test_architecture.py holds the bundled plugins to this list, and docs/reference/plugins.md shows it.
"""

from __future__ import annotations

PUBLIC = {
    "crater_ray.plugins": "hooks, PluginSpec, Options, protocols, the registry",
    "crater_ray.types": "Item, Tokens, TokenShape, Hit, TokenPair",
    "crater_ray.errors": "errors that a user sees in one line",
    "crater_ray.files": "files and folders that are there whole or not at all",
    "crater_ray.testing": "conformance checks and fakes",
    "crater_ray.images": "files and arrays to (H, W, 3) pixels",
    "crater_ray.image_files": "image files below a root: cut into parts, loaded, stamped",
    "crater_ray.pairs": "image pairs as hloc and COLMAP read them",
    "crater_ray.jobfile": "TOML files with a base",
    "crater_ray.options": "options of commands",
    "crater_ray.text": "text files of any common encoding",
    "crater_ray.precision": "where bfloat16 is computed",
    "crater_ray.encode.device": "devices, by name and whether they compute",
    "crater_ray.jobs.cluster": "Ray, started here or joined",
    "crater_ray.config": "job files as tables",
    "crater_ray.evaluation": "mAP, recall and intervals; a job's queries scored, its tokens encoded once",
    "crater_ray.search.codecs": "codecs of tokens",
    "crater_ray.search.kernel": "late interaction of arrays",
    "crater_ray.search.scoring": "the scorings there are",
}
