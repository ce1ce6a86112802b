"""Who made a bundle, and whether a byte of it was changed since: keys, signatures, the envelope, the archive.

Runs on the robot before anything of a bundle is trusted: standard library and `edgevla.errors` only; `cryptography`
and `zstandard` are imported by the functions that need them.
"""
