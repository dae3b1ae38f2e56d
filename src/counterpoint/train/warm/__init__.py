"""What a module begins with: values of a folder or of another run."""
