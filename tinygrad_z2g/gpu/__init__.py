"""What is there for NVIDIA's cards alone: CUDA kernels, and whole steps captured as one launch.

It knows nothing of layers.
"""
