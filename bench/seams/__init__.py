"""What happens where a new chunk takes over: five ways to join the same recorded chunks, at 0 to 8 ticks of delay."""
