"""Contrast of items with the targets of all items: CLIP's and SigLIP's loss with one side locked."""
