"""What keeps a server safe from those who reach it: keys, rates, limits, TLS."""
