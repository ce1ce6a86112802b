"""Instructions per call of the pure hot paths, by callgrind: a gate that no neighbour on the machine disturbs."""
