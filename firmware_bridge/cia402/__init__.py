"""CiA 402 drives over CANopen: cyclic synchronous position, SYNC and PDOs."""
