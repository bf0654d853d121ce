"""Attacks: a hostile server, a hostile page, a careless author and a curious reader of what is left behind."""
