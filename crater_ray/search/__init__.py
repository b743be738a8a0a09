"""Arrays only: codecs, scoring, the shortlist index, exact search and rerank."""
