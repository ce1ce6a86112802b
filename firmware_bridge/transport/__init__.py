"""Bytes in, bytes out, with deadlines."""
