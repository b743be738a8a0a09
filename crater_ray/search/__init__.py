"""Arrays only: codecs, kernels, the shortlist and the two stages."""
