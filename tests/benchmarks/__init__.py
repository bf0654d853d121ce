"""The benchmark tells the truth."""
