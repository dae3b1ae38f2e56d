"""What lies in a folder with tensors, of any kind, and in what two of them differ."""
