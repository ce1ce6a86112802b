"""Budgets, benchmarks and the report."""
