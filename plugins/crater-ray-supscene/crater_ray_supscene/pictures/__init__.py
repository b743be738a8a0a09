"""What a model looks at: assignment to clusters and attention of each head, drawn over images."""
