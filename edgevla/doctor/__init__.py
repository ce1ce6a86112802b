"""Is this computer fit to hold a deadline? Reads procfs, sysfs and /etc, changes nothing, says what to type."""
