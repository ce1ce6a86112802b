"""Meta-World's MT10 and MT50: words, demonstrations and stills of a hand at play."""
