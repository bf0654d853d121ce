"""Side by side: this provider's search, what an expert would write by hand, and the clients that others use."""
