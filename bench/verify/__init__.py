"""`make verify-results`: committed summaries computed again from what they came from, some episodes played again."""
