"""ConvNeXt V2."""
