"""docs/policy.md: the policy of many tasks beside the published table, from bench/results/mt10."""
