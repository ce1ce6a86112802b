"""Measurements: interleaved latency, paired success, the host they were taken on, budgets and the report."""
