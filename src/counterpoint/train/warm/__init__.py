"""What a module begins with: values of a folder or of another run, and what a config leaves to them."""
