"""What a backward pass can do beyond the evening: keep to chosen paths, be asked and watched, be recorded itself.

The core's `Walk` is all that training needs. It knows nothing of what is said here.
"""
