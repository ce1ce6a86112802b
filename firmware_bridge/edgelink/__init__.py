"""edgelink v2: the project's own link to a microcontroller or a virtual arm over a byte stream."""
