"""`edgevla profile`: where time and memory of a bundle go on this host, from a cold start to single operators."""
