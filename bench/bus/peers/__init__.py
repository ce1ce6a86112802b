"""One file a protocol: what is measured, and the library beside us, used as its authors use it."""
