"""Several processes, one model. It knows nothing of what the model is."""
