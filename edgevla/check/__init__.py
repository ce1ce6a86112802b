"""Measurements behind `edgevla check`: inference latency and one servo exchange on this host."""
