"""What a kind of a model, layer or projector tells the rest of the package."""
