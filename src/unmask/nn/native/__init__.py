"""Native code for the CPU, and how it is built."""
