"""ODrive motor controllers over CAN, protocol CANSimple (firmware 0.6)."""
