"""To look on, to explain, to doubt: nothing here takes part in learning, and what does knows nothing of it."""
