"""To look on, to explain, to doubt: nothing here takes part in learning, and nothing that does knows of it."""
