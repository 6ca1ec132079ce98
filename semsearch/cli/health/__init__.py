"""What ``semsearch doctor`` looks at: the machine, the libraries, the model, an index."""
