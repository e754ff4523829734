"""The evening: what a network needs to learn, whole and plain. It knows nothing of GPUs, half precision or loops."""
