"""A factory's module that ends the interpreter, as a careless script does."""

import sys

sys.exit("no GPU, goodbye")
