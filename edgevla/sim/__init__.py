"""Stand-ins for hardware; simulators are imported only when one is started."""
