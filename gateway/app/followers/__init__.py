"""What is put in force when files change, one subject per file: policy, keys, certificates."""
