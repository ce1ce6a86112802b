"""Hot paths, defined once: timed by the suites here, paired by `bench.pairs`, counted by `bench.counts`."""
