"""How public benchmarks count: chains of subtasks (CALVIN), agreement of a simulator with real robots (SimplerEnv)."""
