"""Other engines, loops and bus libraries beside ours in one interleaved run: `edgevla bench peers`."""
