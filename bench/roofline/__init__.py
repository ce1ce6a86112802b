"""Where the time of a policy goes, per class of operators, against what this CPU was seen to reach in the same run."""
