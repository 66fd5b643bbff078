"""The neural parts: align, fuse, propagate, decode; tensors in, tensors out."""
