"""Where numbers live: devices, element types, shapes, places in memory, random numbers. It knows nothing of tensors."""
