"""What is put in force when files change, one subject a file: policy, keys, certificates."""
