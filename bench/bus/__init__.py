"""How close to the wire our drivers run, and what an exchange costs beside the maker's own library."""
