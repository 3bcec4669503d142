"""One training loop on Accelerate, resumable to the bit."""
