"""Inner modules of the face world's renderer: signed distance fields, sphere tracing and shading in plain PyTorch.

Head frame: x right (as seen in the picture), y up, z towards the camera; 1 unit = 10 cm; the eyes lie at y = 0.
Fields take three tensors x, y, z of shape [B, N] (B pictures, N points each) and return distances [B, N]; parameters
are tensors [B, 1] that broadcast against them. Use `lib.data.faceworld`, which is the public door.
"""
