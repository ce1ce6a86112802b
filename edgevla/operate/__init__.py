"""How a person and a service manager see and steer a run: view, keys, say, instruction file, tasks, notify."""
